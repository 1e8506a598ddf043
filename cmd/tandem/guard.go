package main

import (
	"context"

	"tandem/sessions"
)

// runGuard is the body of the guardian: a process that the session manager starts from
// this same program, and that ends what the server leaves behind if it is killed. It is
// not for people.
func runGuard(_ context.Context, args []string, p process) int {
	// Whoever stops a service may signal all its processes. This one is the last to go: it
	// catches what would end it, and looks at none of it.
	_, stop := p.signals()
	defer stop()
	if err := sessions.Guard(p.stdin, args); err != nil {
		return fail(p.stderr, "guard", err)
	}
	return exitOK
}
