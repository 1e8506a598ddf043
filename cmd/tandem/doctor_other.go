//go:build !linux

package main

func checkLimits() []finding {
	return []finding{poor("system", statusWarn, "use Linux where processes that leave their group must be ended", "only the shell's process group is ended with a session here")}
}

func inMemory(string) bool { return true }
