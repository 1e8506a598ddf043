package httpapi

import (
	"sync"
	"time"
)

// A metronome beats for all who wait for it at once, and stands still while nobody does. It
// is for waits that are begun for every request and seldom last: a timer of each one's own
// would be due before all others, and to begin such a timer wakes a thread of the runtime.
// The zero value is ready.
type metronome struct {
	mu   sync.Mutex
	beat chan struct{} // closed at the next beat; nil: nobody waits
}

// next returns a channel that is closed once firstWait has passed, or sooner.
func (m *metronome) next() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.beat == nil {
		m.beat = make(chan struct{})
		time.AfterFunc(firstWait, m.strike)
	}
	return m.beat
}

func (m *metronome) strike() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.beat)
	m.beat = nil
}
