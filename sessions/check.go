package sessions

import (
	"math/rand/v2"
	"os"
)

// CheckDir makes a private directory as [New] would, removes it, and returns where that was.
func CheckDir() (string, error) {
	dir, err := privateDir("")
	if err != nil {
		return "", err
	}
	return dir, os.Remove(dir)
}

// CheckSignal fails with [ErrInvalid], as [Session.Signal] would, where no signal of this system
// has that name, with or without SIG.
func CheckSignal(name string) error {
	_, err := parseSignal(name)
	return err
}

// CheckCgroups tells why sessions get no cgroups of their own here; nil: they do. It makes
// one and removes it.
func CheckCgroups() error {
	g, err := newCgroup(rand.Uint64())
	if err != nil {
		return err
	}
	g.remove()
	return nil
}
