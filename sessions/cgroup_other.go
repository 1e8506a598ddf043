//go:build !linux

package sessions

import (
	"errors"
	"syscall"
	"time"
)

// A cgroup is of Linux.
type cgroup struct{ path string }

func newCgroup(uint64) (*cgroup, error) { return nil, errors.New("cgroups are of Linux") }

func (g *cgroup) child(uint64) *cgroup { return nil }

func (g *cgroup) place(*syscall.SysProcAttr) (done func()) { return func() {} }

func unplace(*syscall.SysProcAttr) {}

func (g *cgroup) empty() bool { return true }

func (g *cgroup) holdsOnly(int) bool { return false }

func (g *cgroup) rest() {}

func (g *cgroup) kill(time.Duration) {}

func (g *cgroup) remove() {}
