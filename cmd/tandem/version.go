package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
)

// runVersion prints what was built: the module's version, where it was built from a
// tagged one, or the revision it was built from, where the build knew it.
func runVersion(_ context.Context, args []string, p process) int {
	if len(args) > 0 {
		return fail(p.stderr, "version", usagef("takes no arguments, got %q", args[0]))
	}
	_, _ = fmt.Fprintf(p.stdout, "tandem %s %s/%s %s\n", version(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	return exitOK
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(12, len(s.Value))]
		}
	}
	return "devel"
}
