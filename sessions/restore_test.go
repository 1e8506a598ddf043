package sessions

import (
	"testing"
	"time"
)

// Bash takes some four seconds to restore an array of 700,000 words, which is 12 MB, and several
// times as long on a busy machine.
func TestRestoreLimitGrowsWithTheState(t *testing.T) {
	t.Parallel()
	s := &Session{}
	none := s.restoreLimit()
	s.checkpoint = &checkpoint{vars: make([]byte, 12<<20)}
	if got := s.restoreLimit(); none != answerLimit || got < answerLimit+20*time.Second {
		t.Errorf("%v without a state, %v with 12 MB", none, got)
	}
}
