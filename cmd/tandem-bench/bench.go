package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"
)

// A bench does the works and collects the rows.
type bench struct {
	ctx   context.Context
	ours  *tandem
	peer  target // nil: there is none
	plain target
	size  sizes
	log   io.Writer
	rows  []*row
	notes []string
}

// sizes say how much to do.
type sizes struct {
	rounds    int // of what takes a moment
	heavy     int // of what takes seconds
	runs      int // REST runs in a round
	lives     int // sessions created and deleted in a round
	parallel  int // runs in each of the sessions at once
	lines     int
	lineBytes int // of output in lines of lineLength
	rawBytes  int
	echoes    int
	keys      int

	idle     int // sessions whose memory is measured
	idleTime time.Duration
	live     int // sessions there at once

	viewers     int
	viewerBytes int

	scaleSessions []int
	scaleViewers  []int
	scaleBytes    []int
}

const megabyte = 1_000_000

var full = sizes{
	rounds: 5, heavy: 3, runs: 400, lives: 100, parallel: 100,
	lines: 2_000_000, lineBytes: 200 * megabyte, rawBytes: 500 * megabyte, echoes: 500, keys: 1000,
	idle: 1000, idleTime: 5 * time.Second, live: 2000,
	viewers: 50, viewerBytes: 100 * megabyte,
	scaleSessions: []int{1, 10, 100, 1000}, scaleViewers: []int{1, 10, 50}, scaleBytes: []int{1 * megabyte, 10 * megabyte, 100 * megabyte},
}

var short = sizes{
	rounds: 3, heavy: 2, runs: 100, lives: 20, parallel: 20,
	lines: 200_000, lineBytes: 20 * megabyte, rawBytes: 100 * megabyte, echoes: 100, keys: 200,
	idle: 200, idleTime: time.Second, live: 400,
	viewers: 50, viewerBytes: 10 * megabyte,
	scaleSessions: []int{1, 10, 100}, scaleViewers: []int{1, 10}, scaleBytes: []int{1 * megabyte, 10 * megabyte},
}

// doAll does the chosen works, or all if none is chosen, up to the first that fails.
func (b *bench) doAll(chosen []string) error {
	for _, w := range works {
		if len(chosen) > 0 && !slices.Contains(chosen, w.name) {
			continue
		}
		start := time.Now()
		err := w.do(b)
		if b.ctx.Err() != nil {
			return fmt.Errorf("%s: interrupted", w.name)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		fmt.Fprintf(b.log, "%-14s %5.1f s  %s\n", w.name, time.Since(start).Seconds(), w.about)
	}
	return nil
}

// A round measures once: many latencies, or one rate.
type round func() ([]float64, error)

// one makes a round of what measures a single value.
func one(f func() (float64, error)) round {
	if f == nil {
		return nil
	}
	return func() ([]float64, error) {
		v, err := f()
		return []float64{v}, err
	}
}

// rounders are the rounds of all that there are. Those that are nil are not.
type rounders struct{ ours, peer, plain, floor round }

// each makes the rounds of every server. Not all works can be asked of the plain one.
func (b *bench) each(of func(target) round, plain bool) rounders {
	r := rounders{ours: of(b.ours)}
	if b.peer != nil {
		r.peer = of(b.peer)
	}
	if plain {
		r.plain = of(b.plain)
	}
	return r
}

// A turn is who is measured and where the result goes.
type turn struct {
	who   string
	into  *series
	round round
}

// interleave does the rounds of all that there are in turns, so that whatever the machine
// does besides hits each of them, and adds the row.
func (b *bench) interleave(r *row, rounds int, of rounders) error {
	b.rows = append(b.rows, r)
	var turns []turn
	for _, t := range []turn{{"tandem", &r.Ours, of.ours}, {b.peerName(), &r.Peer, of.peer}, {"plain", &r.Plain, of.plain}, {"floor", &r.Floor, of.floor}} {
		if t.round != nil {
			turns = append(turns, t)
		}
	}
	for range rounds {
		for _, t := range turns {
			if err := b.ctx.Err(); err != nil {
				return err
			}
			runtime.GC() // none of it in the middle, if it can be helped
			values, err := t.round()
			if err != nil {
				return fmt.Errorf("%s: %w", t.who, err)
			}
			t.into.add(values)
		}
	}
	return nil
}

func (b *bench) peerName() string {
	if b.peer == nil {
		return ""
	}
	return b.peer.name()
}

// A probe does one small thing again and again and says how long it took each time.
type probe struct {
	once  func() (time.Duration, error)
	close func()
}

// latencies measures probes, n times in a round. open makes one for a target, floor the one
// of the floor.
func (b *bench) latencies(name string, n int, open func(target) (*probe, error), floor func() (*probe, error)) error {
	return b.latenciesIn(&row{Work: name, Unit: "ms", Tails: true}, b.size.rounds, n, open, floor)
}

func (b *bench) latenciesIn(r *row, rounds, n int, open func(target) (*probe, error), floor func() (*probe, error)) error {
	of := func(t target) round {
		return func() ([]float64, error) { return sample(n, func() (*probe, error) { return open(t) }) }
	}
	all := b.each(of, true)
	if floor != nil {
		all.floor = func() ([]float64, error) { return sample(n, floor) }
	}
	return b.interleave(r, rounds, all)
}

// sample opens a probe and returns n of its times, in ms. The first few do not count.
func sample(n int, open func() (*probe, error)) ([]float64, error) {
	p, err := open()
	if err != nil {
		return nil, err
	}
	defer p.close()
	for range min(5, n) {
		if _, err := p.once(); err != nil {
			return nil, err
		}
	}
	times := make([]float64, n)
	for i := range times {
		d, err := p.once()
		if err != nil {
			return nil, err
		}
		times[i] = milliseconds(d)
	}
	return times, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// rates measures how much of something goes through in a second, also of the plain server
// where that can.
func (b *bench) rates(name, unit string, rounds int, plain bool, of func(target) (float64, error), floor func() (float64, error)) error {
	all := b.each(func(t target) round { return one(func() (float64, error) { return of(t) }) }, plain)
	all.floor = one(floor)
	return b.interleave(&row{Work: name, Unit: unit, More: true}, rounds, all)
}

// everyTarget calls f for each, untimed.
func (b *bench) everyTarget(f func(target) error) error {
	if err := f(b.ours); err != nil {
		return fmt.Errorf("tandem: %w", err)
	}
	if b.peer == nil {
		return nil
	}
	if err := f(b.peer); err != nil {
		return fmt.Errorf("%s: %w", b.peer.name(), err)
	}
	return nil
}

func (b *bench) note(format string, args ...any) {
	b.notes = append(b.notes, fmt.Sprintf(format, args...))
}
