package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

// A row is one line of the table.
type row struct {
	Work  string
	Unit  string
	More  bool // more is better; otherwise less is
	Tails bool // the 99th percentile is of interest
	Ours  series
	Peer  series
	Plain series
	Floor series
}

// better is how many times as good the first is as the second: more than 1 is better. It is
// NaN where one of them is missing or nothing.
func (r *row) better(a, b *summary, of func(*summary) float64) float64 {
	if a == nil || b == nil || of(a) == 0 || of(b) == 0 {
		return math.NaN()
	}
	if r.More {
		return of(a) / of(b)
	}
	return of(b) / of(a)
}

func p50(s *summary) float64 { return s.P50 }

func p99(s *summary) float64 { return s.P99 }

// cells are the texts of the row.
func (r *row) cells(withPeer bool) []string {
	ours, peer, plain, floor := r.Ours.summary(), r.Peer.summary(), r.Plain.summary(), r.Floor.summary()
	cells := append([]string{r.Work, r.Unit}, r.pair(ours)...)
	if withPeer {
		cells = append(cells, r.pair(peer)...)
		tail := ""
		if r.Tails {
			tail = times(r.better(ours, peer, p99))
		}
		cells = append(cells, times(r.better(ours, peer, p50)), tail)
	}
	cells = append(cells, r.pair(plain)...)
	cells = append(cells, times(r.better(plain, ours, p50)))
	cells = append(cells, r.pair(floor)...)
	return append(cells, times(r.better(floor, ours, p50)))
}

// pair is the median and the 99th percentile.
func (r *row) pair(s *summary) []string {
	if s == nil {
		return []string{"-", ""}
	}
	if !r.Tails {
		return []string{number(s.P50), ""}
	}
	return []string{number(s.P50), number(s.P99)}
}

// number has three digits that count, or all there are before the point.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

func times(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return number(v) + "x"
}

func titles(withPeer bool) []string {
	t := []string{"work", "unit", "ours", "p99"}
	if withPeer {
		t = append(t, "peer", "p99", "ratio", "p99")
	}
	return append(t, "plain", "p99", "ours/plain", "floor", "p99", "ours/floor")
}

// writeTable writes the rows, aligned.
func writeTable(w io.Writer, rows []*row, withPeer bool) error {
	lines := [][]string{titles(withPeer)}
	for _, r := range rows {
		lines = append(lines, r.cells(withPeer))
	}
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, line := range lines {
		for i, cell := range line {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			switch {
			case i == 0:
				b.WriteString(cell + pad)
			case i == 1:
				b.WriteString("  " + cell + pad)
			default:
				b.WriteString("  " + pad + cell)
			}
		}
		b.WriteByte('\n')
	}
	b.WriteString(legend(withPeer))
	_, err := io.WriteString(w, b.String())
	return err
}

func legend(withPeer bool) string {
	text := "plain: net/http with a bash behind it and nothing that a session is for: over REST each run has pipes of its own and its status is told, a WebSocket has a bare bash; floor: bare processes, pipes and sockets\n" +
		"ours/plain, ours/floor: how many times the least possible it takes, or what part of the most possible is missing as a factor; 1x is the limit\n"
	if withPeer {
		text = "ratio: how many times as good as the peer, in time or throughput\n" + text
	}
	return text
}

// A rowReport is a row in JSON.
type rowReport struct {
	Work   string   `json:"work"`
	Unit   string   `json:"unit"`
	Better string   `json:"better"`
	Ours   *summary `json:"ours,omitempty"`
	Peer   *summary `json:"peer,omitempty"`
	Plain  *summary `json:"plain,omitempty"`
	Floor  *summary `json:"floor,omitempty"`
}

// A report is all of it in JSON.
type report struct {
	Machine machine     `json:"machine"`
	At      time.Time   `json:"at"`
	Short   bool        `json:"short"`
	Peer    string      `json:"peer,omitempty"`
	Rows    []rowReport `json:"rows"`
	Notes   []string    `json:"notes,omitempty"`
}

func writeJSON(name string, m machine, cfg config, b *bench) error {
	rep := report{Machine: m, At: time.Now().UTC(), Short: cfg.short, Peer: b.peerName(), Rows: []rowReport{}, Notes: b.notes}
	for _, r := range b.rows {
		better := "less"
		if r.More {
			better = "more"
		}
		rep.Rows = append(rep.Rows, rowReport{r.Work, r.Unit, better, r.Ours.summary(), r.Peer.summary(), r.Plain.summary(), r.Floor.summary()})
	}
	data, err := json.MarshalIndent(rep, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(data, '\n'), 0o644)
}
