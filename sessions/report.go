package sessions

import (
	"bytes"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A report is what a shell said on its control pipe: see shell.bash.
type report struct {
	tag    string // 'E', 'T', 'S', 'C' or 'R' and a number; "X" at an exit; "K" a checkpoint
	status int    // -1 where it makes no sense
	opts   string // $SHELLOPTS, or -$-, which tells all but whether there is a history
	tmout  string
	wild   bool   // what the report itself takes off is still on
	prompt bool   // the user has a prompt, or a command before it
	pid    int    // of the process that reports, 0 where it does not say
	spoilt bool   // there was one before it that did not arrive
	dir    string // where bash takes itself to be, whatever $PWD says
	state  *checkpoint
}

// kind is the tag's letter, number what follows it.
func (r report) kind() byte { return r.tag[0] }

func (r report) number() uint64 {
	n, _ := strconv.ParseUint(r.tag[1:], 10, 64)
	return n
}

// A checkpoint is the whole state of a shell, as scripts that bring it back.
type checkpoint struct {
	exitTrap  string // 'trap -- … EXIT', "" when there is none
	inFunc    bool   // taken within a function: params are the function's
	vars      []byte
	traps     []byte
	debug     []byte // the DEBUG trap, as debugTrap prints it
	params    []byte
	functions []byte
	aliases   []byte
	dirs      []byte // quoted words: the directory stack below the directory
	dir       string // the directory, set by who keeps the checkpoint
}

const (
	startOfReport    = 1 // SOH
	reportFields     = 7
	checkpointFields = 10

	// maxReport bounds what a control pipe can make the server hold, maxOwnReport what a shell's
	// own stdout can, where there is no report but of a run.
	maxReport    = 64 << 20
	maxOwnReport = 64 << 10

	// smallReport is how much memory for reports is kept from one to the next.
	smallReport = 4 << 10

	maxTag = 21 // a letter and a uint64
)

// A reportParser cuts the bytes of a control pipe into reports. They come in any pieces,
// and whatever they are it never fails: what is not a report is left out.
type reportParser struct {
	most    int // that a report may be; 0: maxReport
	buf     []byte
	store   []byte   // for the buf of the next report, where the last was small
	scanned int      // buf[:scanned] has no NUL
	fields  [][]byte // of the report under way
	lead    []byte   // what came right before it
	size    int
	skip    bool // the report under way is too large
}

// reset forgets what has come so far.
func (p *reportParser) reset() {
	*p = reportParser{most: p.most, store: p.store, fields: p.fields[:0]}
}

// feed takes the next bytes, which it copies, and calls emit for every report they end.
func (p *reportParser) feed(b []byte, emit func(report)) {
	if len(p.buf) == 0 && len(p.fields) == 0 {
		p.buf = append(p.store[:0], b...)
		p.store = nil
		if cap(p.buf) <= smallReport {
			p.store = p.buf
		}
	} else {
		p.buf = append(p.buf, b...)
	}
	for {
		i := bytes.IndexByte(p.buf[p.scanned:], 0)
		if i < 0 {
			p.limit()
			return
		}
		field := p.buf[:p.scanned+i]
		p.buf = p.buf[p.scanned+i+1:]
		p.scanned = 0
		p.field(field, emit)
		if len(p.buf) == 0 {
			p.buf = nil
			return
		}
	}
}

func (p *reportParser) limit() {
	most := p.most
	if most == 0 {
		most = maxReport
	}
	if p.size+len(p.buf) > most {
		p.skip = len(p.fields) > 0
		p.buf = bytes.Clone(p.buf[max(len(p.buf)-1-maxTag, 0):]) // a report may begin there
	}
	p.scanned = len(p.buf)
}

func (p *reportParser) field(f []byte, emit func(report)) {
	if len(p.fields) == 0 {
		start := bytes.LastIndexByte(f, startOfReport)
		if p.lead, f = f[:max(start, 0)], f[start+1:]; !validTag(f) {
			return
		}
	}
	p.fields = append(p.fields, f)
	p.size += len(f)
	want := reportFields
	if p.fields[0][0] == 'K' {
		want = checkpointFields
	}
	if len(p.fields) < want {
		return
	}
	switch {
	case !p.skip:
		emit(newReport(p.fields, p.lead))
	case p.fields[0][0] == 'K':
		emit(report{tag: "K", pid: parsePid(p.fields[1])}) // too large: without a state
	}
	clear(p.fields)
	p.fields, p.size, p.skip = p.fields[:0], 0, false
}

func validTag(f []byte) bool {
	if len(f) == 0 || len(f) > maxTag {
		return false
	}
	switch f[0] {
	case 'K', 'X':
		return len(f) == 1
	case 'E', 'T', 'S', 'C', 'R':
		_, err := strconv.ParseUint(string(f[1:]), 10, 64)
		return err == nil
	}
	return false
}

func newReport(f [][]byte, lead []byte) report {
	r := report{tag: string(f[0]), status: -1}
	if r.kind() == 'K' {
		r.pid = parsePid(f[1])
		r.state = newCheckpoint(f[2:])
		if bytes.HasPrefix(lead, []byte("trap -- ")) {
			r.state.debug = bytes.Clone(lead)
		}
		return r
	}
	flags, wild := bytes.CutPrefix(f[3], []byte("w"))
	r.opts, r.tmout, r.wild, r.prompt, r.dir, r.pid = string(f[1]), string(f[2]), wild, len(flags) > 0, string(f[4]), parsePid(f[5])
	r.status, r.spoilt = parseStatus(string(f[6]))
	return r
}

// parseStatus reads a status that words may follow. Where it is 0, which is printf's that has
// reported, the last of them is what that has told: see askLine.
func parseStatus(f string) (status int, spoilt bool) {
	first, rest, _ := strings.Cut(f, " ")
	if first == "0" && rest != "" {
		last := rest[strings.LastIndexByte(rest, ' ')+1:]
		if n, err := strconv.ParseUint(last, 10, 8); err == nil {
			return int(n), true
		}
	}
	if n, err := strconv.ParseUint(first, 10, 8); err == nil {
		return int(n), false
	}
	return -1, false
}

func parsePid(f []byte) int {
	pid, err := strconv.ParseUint(string(f), 10, 31)
	if err != nil {
		return 0
	}
	return int(pid)
}

// compatOff are lines of shopt -p that say nothing and yet set BASH_COMPAT when run.
var compatOff = regexp.MustCompile(`(?m)^shopt -u compat[0-9]+\n`)

func newCheckpoint(f [][]byte) *checkpoint {
	c := &checkpoint{
		exitTrap: string(bytes.TrimSpace(f[0])),
		vars:     bytes.Clone(f[2]), traps: bytes.Clone(f[3]), params: bytes.Clone(f[4]),
		functions: bytes.Clone(f[5]), aliases: bytes.Clone(f[6]), dirs: bytes.Clone(f[7]),
	}
	options, declarations, _ := bytes.Cut(c.vars, []byte("\ndeclare "))
	if declarations != nil {
		c.vars = slices.Concat(compatOff.ReplaceAll(append(options, '\n'), nil), []byte("declare "), declarations)
	}
	c.vars = bytes.ReplaceAll(c.vars, []byte("\nenable -n enable\n"), []byte("\n")) // see lines
	if string(bytes.TrimSpace(c.dirs)) == "''" {
		c.dirs = nil // printf's way to print nothing
	}
	for _, name := range strings.Fields(string(f[1])) {
		c.inFunc = c.inFunc || name != "source"
	}
	return c
}

// within completes the state of a shell that ended within a function by what it could not
// tell there, from the checkpoint before: the positional parameters, which were the
// function's, and the traps that functions do not inherit.
func (c *checkpoint) within(prev *checkpoint) {
	c.params, c.debug = prev.params, prev.debug
	for _, trap := range strings.Split("\n"+string(prev.traps), "\ntrap -- ")[1:] {
		if words := strings.Fields(trap); slices.Contains([]string{"ERR", "RETURN"}, words[len(words)-1]) {
			c.traps = append(c.traps, "\ntrap -- "+trap+"\n"...)
		}
	}
}
