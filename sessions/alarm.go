package sessions

import "time"

// An alarm is a timer that may ring too early, and is therefore seldom set: to begin a timer
// that is due before all others wakes a thread of the runtime, and a session would do that
// several times in each run. Whoever hears it looks at what is due, if anything, and sets it
// again. The zero value is ready; whoever has the session's turn uses it.
type alarm struct {
	timer *time.Timer
	at    time.Time // when it rings; zero: it does not
}

// by makes it ring once d has passed, or before.
func (a *alarm) by(d time.Duration) {
	at := time.Now().Add(d)
	switch {
	case !a.at.IsZero() && !at.Before(a.at):
		return
	case a.timer == nil:
		a.timer = time.NewTimer(d)
	default:
		a.timer.Reset(d)
	}
	a.at = at
}

// c is the channel that it rings on; rang must be called on that.
func (a *alarm) c() <-chan time.Time {
	if a.timer == nil {
		return nil
	}
	return a.timer.C
}

func (a *alarm) rang() { a.at = time.Time{} }

func (a *alarm) stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
}
