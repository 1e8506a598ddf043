package main

// A target is a server that is measured. What REST has is the same for all of them, see
// restClient.
type target interface {
	name() string
	addr() string // host:port
	pid() int     // 0: not known here

	// linesOfEvent is how many newlines an event of a run's stream has.
	linesOfEvent() int

	// garbles reports whether an error is of a kind that this target is known for and that a
	// new connection gets over.
	garbles(error) bool

	// shell starts a shell that is driven over WebSocket.
	shell() (shell, error)

	// idleShells starts n shells that live until they are removed, and leaves them alone.
	idleShells(n int) (remove func() error, err error)
}

// A shell is driven over WebSocket.
type shell interface {
	// command starts one; withStdin leaves its stdin to calls of stdin.
	command(code string, withStdin bool) error
	stdin(p []byte) error

	// read returns the next output. It is good until the next call.
	read() ([]byte, error)

	// settle waits until the command has ended, where that is told.
	settle() error

	// close ends the shell.
	close()
}

// A place is where a target is.
type place struct {
	host    string
	process int
}

func (p place) addr() string { return p.host }

func (p place) pid() int { return p.process }
