package main

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"tandem/ws"
)

// complete is what the line editor asks with every key.
func (a *attached) complete(line string, pos int, key rune) (string, int, bool) {
	if key == keyErase {
		begin := clusterBefore(line, pos)
		return line[:begin] + line[pos:], begin, true
	}
	if key != '\t' {
		a.overflow = a.overflow || key >= ' ' && utf8.RuneCountInString(line) >= mostTyped
		return "", 0, false
	}
	if a.on() != "" {
		return line, pos, true // there is nothing to complete in input
	}
	ctx, cancel := context.WithTimeout(context.Background(), assistLimit)
	defer cancel()
	// The editor counts bytes, the server characters.
	line, before := fromShown.Replace(line), fromShown.Replace(line[:min(pos, len(line))])
	c, err := a.s.Complete(ctx, line, utf8.RuneCountInString(before))
	if err != nil {
		return toShown.Replace(line), len(toShown.Replace(before)), true
	}
	if c.Line == line && len(c.Items) > 1 {
		if c.Truncated {
			c.Items = append(c.Items, "…")
		}
		a.out.note(strings.Join(c.Items, "  "))
	}
	runes := []rune(c.Line)
	return toShown.Replace(c.Line), len(toShown.Replace(string(runes[:min(c.Point, len(runes))]))), true
}

// show shows what happens.
func (a *attached) show(m ws.Message) {
	switch m.Type {
	case ws.TypeStdout, ws.TypeStderr:
		a.out.output(m.Data, m.Type == ws.TypeStderr)
	case ws.TypeAttached:
		a.greet()
		a.now(m.Run)
	case ws.TypeGap:
		a.now(m.Run)
		a.say("%d positions are no longer kept", m.To-m.From)
	case ws.TypeRunStarted:
		a.now(&ws.RunState{RunID: m.RunID})
		if !a.isMine(m.RunID) {
			a.say("run %d by %s: %s", m.Number, m.By, oneLine(m.Code, 200))
		}
	case ws.TypeRunFinished:
		a.forget(m.RunID)
		if on := a.on(); on != "" && on != m.RunID {
			a.say("run %s ended before it began: %s", m.RunID, m.Reason)
			return
		}
		a.now(nil)
		if m.ExitCode == nil || *m.ExitCode != 0 {
			a.say("%s", endText(m))
		}
	case ws.TypeShellRestarted:
		a.say("the shell was replaced (%s)", m.Cause)
	}
}

// greet says once where this is.
func (a *attached) greet() {
	switch {
	case a.greeted:
	case a.view:
		a.say("looking at %s: Ctrl-] detaches", a.name)
	default:
		a.say("attached to %s: Ctrl-] detaches", a.name)
	}
	a.greeted = true
}

// now notes what runs, nil being nothing, and shows by the prompt what a line would be.
func (a *attached) now(run *ws.RunState) {
	a.mu.Lock()
	a.running = ""
	if run != nil {
		a.running = run.RunID
	}
	a.mu.Unlock()
	a.out.prompt(run != nil)
}

// on is the run that is on, or "".
func (a *attached) on() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.running
}

func (a *attached) isMine(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mine[id]
}

func (a *attached) forget(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.mine, id)
}

func (a *attached) lost(err error) { a.say("the connection was lost, trying again: %v", cause(err)) }

func (a *attached) say(format string, args ...any) { a.out.note(fmt.Sprintf(format, args...)) }
