package sessions

import (
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
)

// outPipes makes sure the next run has FIFOs of its own for its output, and gives them its
// number.
func (s *Session) outPipes(number uint64) error {
	alive := s.late[:0]
	for _, p := range s.late {
		if !p.ended() {
			alive = append(alive, p)
		}
	}
	clear(s.late[len(alive):])
	s.late = alive
	for i, kind := range []Kind{Stdout, Stderr} {
		if s.out[i] != nil && s.out[i].linked() {
			s.out[i].hold()
			continue
		}
		if s.out[i] != nil {
			s.out[i].close() // somebody deleted it
		}
		s.fifos++
		path := filepath.Join(s.dir, strconv.Itoa(s.fifos))
		owner := new(atomic.Uint64)
		p, err := openFIFO(path, s.m.buffers, outlet{
			sink: func(b []byte) bool { return s.journal.write(kind, owner.Load(), b) },
			room: s.journal.room, deliver: s.journal.deliver,
		})
		if err != nil {
			return err
		}
		// Both together must fit in the part of the journal that is drained into.
		p.letWiden(s.m.cfg.Retention / 8)
		s.out[i], s.outPath[i], s.outOwner[i] = p, path, owner
	}
	for _, o := range s.outOwner {
		o.Store(number)
	}
	return nil
}

// drainOut takes what the run's pipes hold.
func (s *Session) drainOut() {
	for _, p := range s.out {
		if p != nil {
			p.drain()
		}
	}
}

// retireOut lets go of those of the run's pipes that outlive it. Where the shell is alone there
// is nobody else who could have them open.
func (s *Session) retireOut() {
	if s.sh != nil && !s.copies && s.cgroup.holdsOnly(s.sh.pid) {
		return
	}
	for i, p := range s.out {
		if p != nil && !p.retire() {
			s.late = append(s.late, p)
			s.out[i] = nil
			os.Remove(s.outPath[i])
		}
	}
}

// dropOut lets go of the pipes for output, whose names are gone.
func (s *Session) dropOut() {
	for i, p := range s.out {
		if p != nil {
			p.drain()
			p.close()
			s.out[i] = nil
			os.Remove(s.outPath[i])
		}
	}
}
