package main

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

var errNoProcess = errors.New("its process is not on this machine, or there is no /proc")

// idle measures what sessions cost that do nothing, and whether as many as wanted can be
// there at once. A peer is asked for shells that live, since that is what a session is here.
func (b *bench) idle() error {
	memory := &row{Work: "idle memory", Unit: "MB/session"}
	cpu := &row{Work: "idle cpu", Unit: "s in " + b.size.idleTime.String()}
	b.rows = append(b.rows, memory, cpu)
	err := b.everyTarget(func(t target) error {
		mem, used := &memory.Ours, &cpu.Ours
		if t != target(b.ours) {
			mem, used = &memory.Peer, &cpu.Peer
		}
		return b.idleOf(t, mem, used)
	})
	if err != nil {
		return err
	}
	if err := b.idleFloor(&memory.Floor); err != nil {
		return fmt.Errorf("floor: %w", err)
	}
	b.note("idle: proportional set size of the server and all below it, by %d sessions with a shell each", b.size.idle)
	n := b.size.live
	return b.rates(fmt.Sprintf("idle %d live", n), "sessions/s", 1, false, func(t target) (float64, error) { return liveRate(t, n) }, nil)
}

// settleTime is how long what was just started may go on with what it does at the start.
const settleTime = 2 * time.Second

func (b *bench) idleOf(t target, memory, cpu *series) error {
	if t.pid() == 0 {
		b.note("idle: %s: %v", t.name(), errNoProcess)
		return nil
	}
	remove, err := t.idleShells(b.size.idle)
	if err != nil {
		return err
	}
	time.Sleep(settleTime)
	before, err := cpuSeconds(t.pid())
	if err != nil {
		return err
	}
	time.Sleep(b.size.idleTime)
	after, err := cpuSeconds(t.pid())
	if err != nil {
		return err
	}
	cpu.add([]float64{after - before})
	pids, err := family(t.pid())
	if err != nil {
		return err
	}
	if len(pids) < b.size.idle {
		return fmt.Errorf("%d processes for %d sessions", len(pids), b.size.idle)
	}
	pss, err := proportional(pids)
	memory.add([]float64{pss / float64(b.size.idle)})
	return errors.Join(err, remove())
}

// idleFloor is as many bare shells.
func (b *bench) idleFloor(memory *series) error {
	shells := make([]*bare, 0, b.size.idle)
	defer func() {
		for _, sh := range shells {
			sh.kill()
		}
	}()
	var pids []int
	for range b.size.idle {
		sh, err := startBash()
		if err != nil {
			return err
		}
		shells = append(shells, sh)
		pids = append(pids, sh.cmd.Process.Pid)
	}
	time.Sleep(settleTime / 4)
	pss, err := proportional(pids)
	if err != nil && b.ours.pid() == 0 {
		return nil // there is no /proc: nothing was measured here
	}
	memory.add([]float64{pss / float64(b.size.idle)})
	return err
}

// liveRate makes n sessions and lets each answer while all are there.
func liveRate(t target, n int) (float64, error) {
	c, err := dialREST(t.addr())
	if err != nil {
		return 0, err
	}
	defer c.close()
	start := time.Now()
	ids, err := c.createMany(n)
	if err != nil {
		return 0, err
	}
	body := runBody("true")
	for _, id := range ids {
		if err := c.mending(t, func() error { _, err := c.run(id, body); return err }); err != nil {
			return 0, fmt.Errorf("with %d sessions: %w", n, err)
		}
	}
	took := time.Since(start)
	return float64(n) / took.Seconds(), c.removeAll(t, ids)
}

// viewers measures many readers of one flood. They are attached in the role that misses
// nothing: role=view would let the command run ahead of who is too slow. No peer has that.
func (b *bench) viewers() error {
	n := b.size.viewers
	if err := b.identical(n); err != nil {
		return err
	}
	r := &row{Work: fmt.Sprintf("viewers %d", n), Unit: "MB/s", More: true}
	if err := b.interleave(r, b.size.heavy, rounders{ours: one(func() (float64, error) { return b.watch(b.ours, n) }),
		floor: one(func() (float64, error) { return bareFanout(n, b.size.viewerBytes) })}); err != nil {
		return err
	}
	if b.ours.pid() == 0 {
		b.note("viewers: memory of tandem: %v", errNoProcess)
		return nil
	}
	for _, n := range slices.Compact([]int{1, min(10, n), n}) {
		growth := &row{Work: fmt.Sprintf("viewers %d growth", n), Unit: "MB of RSS"}
		if err := b.interleave(growth, 1, rounders{ours: one(func() (float64, error) { return b.growth(n) })}); err != nil {
			return err
		}
	}
	return nil
}

// identical lets n viewers hash what they get.
func (b *bench) identical(n int) error {
	code, want := telling(b.size.viewerBytes)
	got := make([]*digest, n)
	for i := range got {
		got[i] = newDigest()
	}
	if _, err := watch(b.ours, n, code, want.bytes, func(i int, p []byte) { got[i].write(p) }); err != nil {
		return err
	}
	for i, d := range got {
		if !d.equal(want) {
			return fmt.Errorf("viewer %d of %d got other bytes", i+1, n)
		}
	}
	b.note("viewers: %d of %d got the same %d MB, by their SHA-256", n, n, want.bytes/megabyte)
	return nil
}

// watch returns the MB/s of n viewers together.
func (b *bench) watch(t *tandem, n int) (float64, error) {
	size := b.size.viewerBytes
	took, err := watch(t, n, zeros(size), size, nil)
	return float64(n) * float64(size) / megabyte / took.Seconds(), err
}

// watch attaches n viewers to a new session, has the first one run code, and returns how
// long it took until each had size bytes.
func watch(t *tandem, n int, code string, size int, sink func(int, []byte)) (time.Duration, error) {
	var took time.Duration
	err := inSession(t, func(_ *restClient, id string) error {
		shells := make([]*tandemShell, n)
		for i := range shells {
			sh, err := t.attach(id, viewerBuffer)
			if err != nil {
				return err
			}
			defer sh.ws.close()
			shells[i] = sh
		}
		start := time.Now()
		if err := shells[0].command(code, false); err != nil {
			return err
		}
		err := concurrently(n, func(i int) error {
			if sink == nil {
				return drain(shells[i], size, nil)
			}
			return drain(shells[i], size, func(p []byte) { sink(i, p) })
		})
		took = time.Since(start)
		return err
	})
	return took, err
}

// growth is by how many MB a server grows at most while n viewers watch. It is a new one
// where we are who starts it: an old one has memory left from what it did before.
func (b *bench) growth(n int) (grown float64, err error) {
	t := b.ours
	if t.bin != "" {
		s, err := startServer(b.ctx, t.bin)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, s.stop()) }()
		t = s.tandem()
		time.Sleep(settleTime / 4)
	}
	before, err := residentSet(t.pid())
	if err != nil {
		return 0, err
	}
	most := before
	stop := make(chan struct{})
	var sampler sync.WaitGroup
	sampler.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				now, _ := residentSet(t.pid())
				most = max(most, now)
			}
		}
	})
	_, err = b.watch(t, n)
	close(stop)
	sampler.Wait()
	return most - before, err
}

func (b *bench) scale() error {
	for _, n := range b.size.scaleSessions {
		r := &row{Work: fmt.Sprintf("scale %d sessions", n), Unit: "ms", Tails: true}
		err := b.latenciesIn(r, 2, max(n, b.size.runs/2),
			func(t target) (*probe, error) { return restProbe(t, "true", n) },
			func() (*probe, error) { return bareProbe("true; echo .\n") })
		if err != nil {
			return err
		}
	}
	for _, n := range b.size.scaleViewers {
		r := &row{Work: fmt.Sprintf("scale %d viewers", n), Unit: "MB/s", More: true}
		err := b.interleave(r, 2, rounders{ours: one(func() (float64, error) { return b.watch(b.ours, n) }),
			floor: one(func() (float64, error) { return bareFanout(n, b.size.viewerBytes) })})
		if err != nil {
			return err
		}
	}
	for _, size := range b.size.scaleBytes {
		if err := b.scaleBytes(size); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) scaleBytes(size int) error {
	code := zeros(size)
	of := func(t target) round {
		return one(func() (float64, error) {
			took, err := flood(t, code, size, nil)
			return took.Seconds(), err
		})
	}
	all := b.each(of, true)
	all.floor = one(func() (float64, error) {
		rate, err := bareFlood(code, size, 1)
		return 1 / rate, err
	})
	return b.interleave(&row{Work: fmt.Sprintf("scale %d MB", size/megabyte), Unit: "s"}, b.size.rounds, all)
}
