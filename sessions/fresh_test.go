package sessions_test

import (
	"regexp"
	"slices"
	"testing"

	"tandem/sessions"
	"tandem/sessions/sessionstest"
)

// Only the first session of a manager is asked for the state of a shell in which nothing has
// run: a shell that dies in its first run leaves the others as well off.
func TestFreshStateServesAll(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	own := regexp.MustCompile(`(?m)^declare -[^ ]* (` + changing + `)[= ].*\n`)
	var looks, randoms [3]string
	for i := range looks {
		s := sessionstest.Session(t, m)
		if r := sessionstest.Run(t, s, "lost=1; kill -9 $$"); r.Reason != sessions.ReasonShellExited {
			t.Fatalf("%d: %+v", i, r)
		}
		randoms[i] = sessionstest.Run(t, s, "echo $RANDOM $RANDOM $RANDOM").Stdout
		if got := sessionstest.Restarts(t, s); !slices.Equal(got, restartSignal) {
			t.Errorf("%d: restarts %q", i, got)
		}
		look := sessionstest.Run(t, s, `[[ $PWD == "$(pwd -P)" ]] && cd / && declare -p && trap -p | grep -v EXIT; shopt && set -o && umask && alias && declare -f`)
		looks[i] = own.ReplaceAllString(look.Stdout, "")
		if looks[i] == "" || looks[i] != looks[0] {
			t.Errorf("%d: %s", i, difference(looks[i], looks[0]))
		}
		sessionstest.Run(t, s, "kept=1; exit")
		if got := sessionstest.Run(t, s, "echo $kept $lost").Stdout; got != "1\n" {
			t.Errorf("%d: kept %q", i, got)
		}
	}
	if randoms[1] == randoms[2] {
		t.Errorf("two sessions have the same random numbers: %s", randoms[1])
	}
}
