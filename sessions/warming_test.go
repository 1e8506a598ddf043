package sessions

import (
	"testing"
	"time"
)

// A session that is created while a warm one is being made becomes that one.
func TestCreateTakesTheWarmSessionInTheMaking(t *testing.T) {
	t.Parallel()
	m, err := New(Config{Dir: t.TempDir(), Warm: 1})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s, err := m.Create(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); s.seq != 1 && took < warmLimit {
		t.Errorf("it is the session of number %d, after %v", s.seq, took)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
