package main

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A work is something to measure.
type work struct {
	name  string
	about string
	do    func(*bench) error
}

var works []work

// The table refers to what refers to it, so it is filled in here.
func init() {
	works = []work{
		{"rest-true", "REST runs of true, one after the other", (*bench).restTrue},
		{"rest-bin-true", "the same with /bin/true", (*bench).restBinTrue},
		{"lifecycle", "create a session, run true, delete it", (*bench).lifecycle},
		{"parallel", "REST runs of true in 16 sessions at once", (*bench).parallel},
		{"sse-lines", "short lines over SSE", (*bench).sseLines},
		{"sse-bytes", "lines of 1,000 bytes over SSE", (*bench).sseBytes},
		{"ws-raw", "raw output over WebSocket", (*bench).wsRaw},
		{"ws-echo", "command echo x over WebSocket, until x is there", (*bench).wsEcho},
		{"ws-key", "keystroke through cat over WebSocket", (*bench).wsKey},
		{"idle", "memory and CPU of idle sessions", (*bench).idle},
		{"viewers", "WebSocket viewers of one flood", (*bench).viewers},
		{"isolation", "keystroke in one session while another floods", (*bench).isolation},
		{"scale", "how all this grows", (*bench).scale},
	}
}

func workNames() []string {
	names := make([]string, len(works))
	for i, w := range works {
		names[i] = w.name
	}
	return names
}

func (b *bench) restTrue() error { return b.restRuns("rest-true", "true") }

func (b *bench) restBinTrue() error { return b.restRuns("rest-bin-true", "/bin/true") }

func (b *bench) restRuns(name, code string) error {
	return b.latencies(name, b.size.runs,
		func(t target) (*probe, error) { return restProbe(t, code, 1) },
		func() (*probe, error) { return bareProbe(code + "; echo .\n") })
}

// restProbe runs code in n sessions in turn, on one connection.
func restProbe(t target, code string, n int) (*probe, error) {
	c, err := dialREST(t.addr())
	if err != nil {
		return nil, err
	}
	ids, err := c.createMany(n)
	if err != nil {
		c.close()
		return nil, err
	}
	body := runBody(code)
	turn := 0
	once := func() (time.Duration, error) {
		id := ids[turn%n]
		turn++
		var took time.Duration
		err := c.mending(t, func() error {
			start := time.Now()
			_, err := c.run(id, body)
			took = time.Since(start)
			return err
		})
		return took, err
	}
	return &probe{once, func() { _ = c.removeAll(t, ids); c.close() }}, nil
}

func (b *bench) lifecycle() error {
	body := runBody("true")
	open := func(t target) (*probe, error) {
		c, err := dialREST(t.addr())
		if err != nil {
			return nil, err
		}
		once := func() (took time.Duration, err error) {
			err = c.mending(t, func() error {
				start := time.Now()
				err := c.life(body)
				took = time.Since(start)
				return err
			})
			return took, err
		}
		return &probe{once, c.close}, nil
	}
	return b.latencies("lifecycle", b.size.lives, open, bareLifeProbe)
}

// life is that of a session that runs one thing.
func (c *restClient) life(body []byte) error {
	id, err := c.create()
	if err != nil {
		return err
	}
	if _, err := c.run(id, body); err != nil {
		return err
	}
	return c.remove(id)
}

// atOnce is how many sessions "parallel" uses.
const atOnce = 16

func (b *bench) parallel() error {
	n := b.size.parallel
	return b.rates("parallel", "runs/s", b.size.rounds, true,
		func(t target) (float64, error) {
			return together(n, func() (*probe, error) { return restProbe(t, "true", 1) })
		},
		func() (float64, error) {
			return together(n, func() (*probe, error) { return bareProbe("true; echo .\n") })
		})
}

// together lets atOnce probes work at the same time, n times each, and returns how many
// times a second that is for all of them.
func together(n int, open func() (*probe, error)) (float64, error) {
	probes := make([]*probe, atOnce)
	for i := range probes {
		p, err := open()
		if err != nil {
			return 0, err
		}
		defer p.close()
		if _, err := p.once(); err != nil {
			return 0, err
		}
		probes[i] = p
	}
	start := time.Now()
	err := concurrently(atOnce, func(i int) error {
		for range n {
			if _, err := probes[i].once(); err != nil {
				return err
			}
		}
		return nil
	})
	return atOnce * float64(n) / time.Since(start).Seconds(), err
}

// concurrently calls f with 0 to n-1, all at once.
func concurrently(n int, f func(i int) error) error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = f(i) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err // the first is enough: the others tend to follow from it
		}
	}
	return nil
}

// wsEcho times a command until its output is there, which is all that every target tells.
// For ours there is a row more, until the end of the run has been told too.
func (b *bench) wsEcho() error {
	err := b.latencies("ws-echo", b.size.echoes,
		func(t target) (*probe, error) { return echoProbe(t, false) },
		func() (*probe, error) { return bareProbe("echo x\n") })
	if err != nil {
		return err
	}
	r := &row{Work: "ws-echo finished", Unit: "ms", Tails: true}
	return b.interleave(r, b.size.rounds, rounders{ours: func() ([]float64, error) {
		return sample(b.size.echoes, func() (*probe, error) { return echoProbe(b.ours, true) })
	}})
}

func echoProbe(t target, toEnd bool) (*probe, error) {
	sh, err := t.shell()
	if err != nil {
		return nil, err
	}
	once := func() (time.Duration, error) {
		start := time.Now()
		if err := sh.command("echo x", false); err != nil {
			return 0, err
		}
		if err := expect(sh, "x\n"); err != nil {
			return 0, err
		}
		took := time.Since(start)
		// The end of the run is awaited even where it is not timed: the next one must not
		// have to wait for this one.
		err := sh.settle()
		if toEnd {
			took = time.Since(start)
		}
		return took, err
	}
	return &probe{once, sh.close}, nil
}

// expect reads exactly want.
func expect(sh shell, want string) error {
	var got []byte
	for len(got) < len(want) {
		p, err := sh.read()
		if err != nil {
			return err
		}
		got = append(got, p...)
	}
	if string(got) != want {
		return fmt.Errorf("output was %q, not %q", got, want)
	}
	return nil
}

func (b *bench) wsKey() error {
	return b.latencies("ws-key", b.size.keys, keyProbe, bareKeyProbe)
}

// keyProbe sends single bytes through cat.
func keyProbe(t target) (*probe, error) {
	sh, err := t.shell()
	if err != nil {
		return nil, err
	}
	if err := sh.command("cat", true); err != nil {
		sh.close()
		return nil, err
	}
	key := []byte("k")
	once := func() (time.Duration, error) {
		start := time.Now()
		if err := sh.stdin(key); err != nil {
			return 0, err
		}
		p, err := sh.read()
		took := time.Since(start)
		if err == nil && !bytes.Equal(p, key) {
			err = fmt.Errorf("cat said %q to a keystroke", p)
		}
		return took, err
	}
	return &probe{once, sh.close}, nil
}

// endless is a flood until it is stopped.
const endless = "cat /dev/zero"

func (b *bench) isolation() error {
	return b.latencies("isolation", b.size.keys/2, func(t target) (*probe, error) {
		flood, err := t.shell()
		if err != nil {
			return nil, err
		}
		if err := flood.command(endless, false); err != nil {
			flood.close()
			return nil, err
		}
		return besideFlood(func() error { _, err := flood.read(); return err }, flood.close,
			func() (*probe, error) { return keyProbe(t) })
	}, func() (*probe, error) {
		sh, err := startBare("bash", "--norc", "--noprofile", "-c", endless)
		if err != nil {
			return nil, err
		}
		buf := make([]byte, 1<<20)
		return besideFlood(func() error { _, err := sh.out.Read(buf); return err }, sh.kill, bareKeyProbe)
	})
}

// besideFlood opens a probe while a flood is read, and makes one of it that stops the flood
// at its end. A flood that ends earlier is an error.
func besideFlood(read func() error, stop func(), open func() (*probe, error)) (*probe, error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for read() == nil {
		}
	}()
	end := func() { stop(); <-done }
	p, err := open()
	if err != nil {
		end()
		return nil, err
	}
	once := func() (time.Duration, error) {
		select {
		case <-done:
			return 0, errors.New("the flood ended")
		default:
			return p.once()
		}
	}
	return &probe{once, func() { p.close(); end() }}, nil
}
