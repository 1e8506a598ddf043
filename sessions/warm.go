package sessions

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Warm sessions are whole but for an id that anybody knows: with a number, a directory, a
// cgroup and a shell that has started, which is what takes time. They are in the server's
// directory and have its environment; one that is taken is moved to where it is to be. A
// session with an environment of its own is never one of them.

// takeWarm returns a warm session that has been given its place, nil where there is none
// that would do. It fails as admit does.
func (m *Manager) takeWarm(o Options, cwd string) (*Session, error) {
	if len(o.Env) > 0 || unix.Access(cwd, unix.X_OK) != nil {
		return nil, nil
	}
	for {
		s := m.nextWarm()
		if s == nil {
			return nil, nil
		}
		if s.sh.dead() || !s.sh.ctl.linked() {
			m.discard(s)
			continue
		}
		if err := m.admit(s, o.Name); err != nil {
			m.discard(s)
			return nil, err
		}
		s.moveTo(cwd)
		return s, nil
	}
}

// nextWarm returns the warm session that is there for longest. Where there is none, one is
// waited for that is being made, unless somebody else does: it has a start on any other.
func (m *Manager) nextWarm() *Session {
	s, made := m.popWarm()
	if made == nil {
		return s
	}
	select {
	case s := <-made:
		return s
	case <-time.After(warmLimit):
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.wanted != made {
		return <-made // it has come all the same
	}
	m.wanted = nil
	return nil
}

// popWarm returns a warm session, or else where the one that is being made will come, if that
// is to be waited for.
func (m *Manager) popWarm() (s *Session, made chan *Session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.warm) > 0 {
		s = m.warm[0]
		m.warm = m.warm[1:]
		return s, nil
	}
	if m.warming && m.wanted == nil {
		made = make(chan *Session, 1)
		m.wanted = made
	}
	return nil, made
}

// warmLimit is how long a session that is being made is waited for: one that takes longer may
// never be.
const warmLimit = 100 * time.Millisecond

// moveTo makes a warm session's shell one that was started in cwd now.
func (s *Session) moveTo(cwd string) {
	s.mu.Lock()
	was := s.cwd
	s.cwd = cwd
	s.mu.Unlock()
	if s.checkpoint != nil {
		s.checkpoint.dir = cwd
	}
	line := "SECONDS=0"
	if was != cwd {
		line = `\builtin cd -- ` + quote(cwd) + " >/dev/null 2>&1; \\builtin unset -v OLDPWD; \\builtin export OLDPWD; \\builtin : \"${DIRSTACK-}\"; " + line
	}
	s.sh.say(line + "\n")
}

// warmUp has sessions made until there are as many warm ones as are wanted.
func (m *Manager) warmUp() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.warming || m.closing || len(m.warm) >= m.cfg.Warm {
		return
	}
	m.warming = true
	m.wg.Go(func() {
		for m.warmOne() {
		}
	})
}

// warmOne makes one warm session, and reports whether another is wanted.
func (m *Manager) warmOne() bool {
	var s *Session
	cwd, err := os.Getwd()
	if err == nil {
		s, err = m.newSession(cwd, m.env)
	}
	if err == nil {
		if err = s.freshShell(false); err == nil {
			s.saveState() // or else the first run would wait for it
			if s.sh == nil || s.dirty {
				err = errNoAnswer
			}
		}
		if err != nil {
			m.discard(s)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		s = nil
	}
	if m.wanted != nil {
		m.wanted <- s
		m.wanted = nil
	} else if s != nil {
		// Close takes even those that come late: it waits for this goroutine first.
		m.warm = append(m.warm, s)
	}
	m.warming = err == nil && len(m.warm) < m.cfg.Warm && !m.closing
	return m.warming
}

// cool ends the warm sessions. Nothing may make more of them.
func (m *Manager) cool() {
	m.mu.Lock()
	warm := m.warm
	m.warm = nil
	m.mu.Unlock()
	for _, s := range warm {
		m.discard(s)
	}
}
