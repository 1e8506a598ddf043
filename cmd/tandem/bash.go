package main

import (
	"context"
	"fmt"
	"os/exec"
	"time"
)

// The oldest bash that sessions are known to work on.
const (
	bashMajor = 5
	bashMinor = 0
)

// bashTimeout is far more than a bash needs to say its version, even on a busy machine.
const bashTimeout = 10 * time.Second

// findBash returns the path of bash, having made sure that it is new enough: a server that
// could not open a single session does not start.
func findBash(ctx context.Context, name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", usagef("cannot find bash: install bash %d.%d or newer, or put it on the PATH: %w", bashMajor, bashMinor, err)
	}
	major, minor, err := bashVersion(ctx, path)
	if err != nil {
		return "", usagef("cannot use %s as bash: %w", path, err)
	}
	if major < bashMajor || major == bashMajor && minor < bashMinor {
		return "", usagef("%s is bash %d.%d: put bash %d.%d or newer first on the PATH", path, major, minor, bashMajor, bashMinor)
	}
	return path, nil
}

func bashVersion(ctx context.Context, path string) (major, minor int, err error) {
	ctx, cancel := context.WithTimeout(ctx, bashTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--noprofile", "--norc", "-c", `echo "${BASH_VERSINFO[0]}.${BASH_VERSINFO[1]}"`)
	cmd.Env = []string{"LC_ALL=C"} // no BASH_ENV, which would run a file of the user's
	out, err := cmd.Output()
	if err != nil {
		return 0, 0, fmt.Errorf("ask it for its version: %w", err)
	}
	if _, err := fmt.Sscanf(string(out), "%d.%d", &major, &minor); err != nil {
		return 0, 0, fmt.Errorf("its version is %q, which is not a version of bash", out)
	}
	return major, minor, nil
}
