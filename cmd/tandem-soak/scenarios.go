package main

import (
	"context"
	"math/rand/v2"
)

// A scenario is one thing that clients do, chosen as often as its weight says.
type scenario struct {
	name   string
	weight int
	run    func(st *step, ctx context.Context, s *session) error
}

// scenarios are all there are. Their order is part of what a seed means.
var scenarios = []scenario{
	{"rest sse", 6, (*step).restSSE},
	{"rest json", 5, (*step).restJSON},
	{"rest stdin text", 2, (*step).restStdinText},
	{"rest stdin stream", 2, (*step).restStdinStream},
	{"rest detached", 3, (*step).restDetached},
	{"rest repeated", 3, (*step).restRepeated},
	{"rest timeout", 2, (*step).restTimeout},
	{"rest env and cwd", 2, (*step).restEnvCwd},
	{"ws output", 7, (*step).wsOutput},
	{"ws stdin", 4, (*step).wsStdin},
	{"ws background", 2, (*step).wsBackground},
	{"ws interrupt", 5, (*step).wsInterrupt},
	{"ws forced interrupt", 1, (*step).wsForce},
	{"ws queue", 3, (*step).wsQueue},
	{"ws cancel", 2, (*step).wsCancel},
	{"ws viewers", 3, (*step).wsViewers},
	{"ws ephemeral", 1, (*step).wsEphemeral},
	{"events", 2, (*step).events},
	{"state", 5, (*step).state},
	{"exit", 3, (*step).exit},
	{"children", 4, (*step).children},
	{"delete while running", 2, (*step).deleteRunning},

	{"fault: shell killed", 2, (*step).killShell},
	{"fault: private directory deleted", 1, (*step).deletePrivate},
	{"fault: rest cut", 2, (*step).cutREST},
	{"fault: rest cut and repeated", 2, (*step).cutRepeat},
	{"fault: rest never read", 1, (*step).neverReadREST},
	{"fault: ws never read", 1, (*step).neverReadWS},
	{"fault: half frame", 1, (*step).halfFrame},
	{"fault: half request", 2, (*step).halfRequest},
	{"fault: garbage", 1, (*step).garbage},
	{"fault: malformed json", 1, (*step).badJSON},
	{"fault: malformed messages", 1, (*step).badMessages},
	{"fault: wrong token", 1, (*step).wrongToken},
	{"fault: flood of stdin", 1, (*step).flood},
}

// pick draws a scenario.
func pick(rng *rand.Rand) scenario {
	total := 0
	for _, s := range scenarios {
		total += s.weight
	}
	n := rng.IntN(total)
	for _, s := range scenarios {
		if n -= s.weight; n < 0 {
			return s
		}
	}
	return scenarios[0]
}
