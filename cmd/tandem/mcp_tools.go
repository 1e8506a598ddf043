package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const (
	defaultRunWait  = 30_000 // ms: half of what common clients wait for an answer
	defaultTalkWait = 10_000
	mostWait        = 600_000
)

// mcpInstructions tell a model what no single tool does.
const mcpInstructions = `tandem runs bash in sessions that live on: directory, variables, functions and background jobs stay from one run to the next, and also after exit, a failed set -e, a timeout or an interrupt. Without a session, every tool uses this connection's own, which ends with the connection; create_session makes one that stays until it is deleted, and people and other agents can work in the same one. Runs of a session go one at a time, in order; use several sessions for things at the same time. There is no terminal: programs that need one (editors, pagers, password prompts) do not work. A run that takes longer than wait_ms goes on: read on with read_output.`

// newServer makes the MCP server with its tools.
func (d *mcpDoor) newServer() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "tandem", Title: "tandem: bash sessions", Version: version()}, &mcp.ServerOptions{
		Instructions: mcpInstructions,
		Capabilities: &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{}}, // no others, and no changes to tell
	})
	addTool(d, s, tool{
		name: "run", title: "Run bash code",
		about: "Run bash code in a session, whose directory, variables, functions and background jobs stay for the next run. Answers when it has ended, with its output and exit code, or after wait_ms with what has come until then, while it goes on. Canceling the call interrupts the run.",
		hints: mcp.ToolAnnotations{DestructiveHint: new(true), OpenWorldHint: new(true)},
	}, defaultRunWait, (*guest).run)
	addTool(d, s, tool{
		name: "write_stdin", title: "Write to a run's standard input",
		about: "Give input to a run that was started with interactive=true, and see what it answers.",
		hints: mcp.ToolAnnotations{DestructiveHint: new(true), OpenWorldHint: new(true)},
	}, defaultTalkWait, (*guest).writeStdin)
	addTool(d, s, tool{
		name: "read_output", title: "Read a run's output",
		about: "Read the output of a run from a position on, also after it has ended, and what its background jobs have put out since; with wait_ms, wait for its end.",
		hints: mcp.ToolAnnotations{ReadOnlyHint: true, OpenWorldHint: new(false)},
	}, 0, (*guest).readOutput)
	addTool(d, s, tool{
		name: "interrupt", title: "Interrupt a run",
		about: "Interrupt what runs in a session, as Ctrl-C does, or take a waiting run out of the queue. The session keeps its state. With force, a run that does not end is ended with SIGTERM after a second and SIGKILL after another.",
		hints: mcp.ToolAnnotations{DestructiveHint: new(true), IdempotentHint: true, OpenWorldHint: new(false)},
	}, 0, (*guest).interruptRun)
	addTool(d, s, tool{
		name: "signal", title: "Send a signal to a run",
		about: "Send a signal to the processes that the current run of a session has started, never to the shell itself. To stop a run, use interrupt.",
		hints: mcp.ToolAnnotations{DestructiveHint: new(true), OpenWorldHint: new(false)},
	}, 0, (*guest).signalRun)
	addTool(d, s, tool{
		name: "list_sessions", title: "List sessions",
		about: "List all sessions of the server, also those of people and other agents, and what runs in them.",
		hints: mcp.ToolAnnotations{ReadOnlyHint: true, OpenWorldHint: new(false)},
	}, 0, (*guest).listSessions)
	addTool(d, s, tool{
		name: "list_runs", title: "List the runs of a session",
		about: "List the runs of a session, newest first: what was run, by whom, how it ended, and which are on or waiting.",
		hints: mcp.ToolAnnotations{ReadOnlyHint: true, OpenWorldHint: new(false)},
	}, 0, (*guest).listRuns)
	addTool(d, s, tool{
		name: "create_session", title: "Create a session",
		about: "Create a session that stays until delete_session. Only needed for work that is to go on at the same time as other work, or after this connection: run has a session of its own.",
		hints: mcp.ToolAnnotations{DestructiveHint: new(false), OpenWorldHint: new(false)},
	}, 0, (*guest).createSession)
	addTool(d, s, tool{
		name: "delete_session", title: "Delete a session",
		about: "End a session and every process in it, background jobs included.",
		hints: mcp.ToolAnnotations{DestructiveHint: new(true), IdempotentHint: true, OpenWorldHint: new(false)},
	}, 0, (*guest).deleteSession)
	return s
}

// A tool is what an agent is told of one.
type tool struct {
	name, title, about string
	hints              mcp.ToolAnnotations
}

// A textual is an answer that is also told in words.
type textual interface{ texts() []string }

// addTool adds a tool that f does. wait is the default of wait_ms, where In has that.
func addTool[In any, Out textual](d *mcpDoor, s *mcp.Server, t tool, wait int64, f func(*guest, context.Context, *mcp.CallToolRequest, In) (Out, error)) {
	input, err := jsonschema.For[In](nil)
	if err != nil {
		panic(err) // a mistake in the type
	}
	describe(input, wait)
	t.hints.Title = t.title
	mcp.AddTool(s, &mcp.Tool{Name: t.name, Title: t.title, Description: t.about, InputSchema: input, Annotations: &t.hints},
		func(ctx context.Context, req *mcp.CallToolRequest, in In) (*mcp.CallToolResult, Out, error) {
			var none Out
			g, err := d.guestOf(req.Session)
			if err != nil {
				return nil, none, err
			}
			ctx, stop := d.withEnd(ctx)
			defer stop()
			out, err := f(g, ctx, req, in)
			if err != nil {
				return nil, none, fmt.Errorf("%s", strings.ReplaceAll(err.Error(), "\n", " "))
			}
			res := &mcp.CallToolResult{}
			for _, text := range out.texts() {
				res.Content = append(res.Content, &mcp.TextContent{Text: text})
			}
			return res, out, nil
		})
}

// describe adds to a schema what is the same for all tools, and what types do not say.
func describe(input *jsonschema.Schema, wait int64) {
	if p := input.Properties["session"]; p != nil && p.Description == "" {
		p.Description = "the session: its id, a beginning of it that no other has, or its name; absent: this connection's own"
	}
	if p := input.Properties["wait_ms"]; p != nil {
		p.Maximum, p.Default = new(float64(mostWait)), fmt.Appendf(nil, "%d", wait)
	}
	for _, p := range input.Properties {
		switch {
		case p.Type == "integer":
			p.Minimum = new(0.0)
		case len(p.Types) == 2 && p.Types[1] == "integer": // may be absent, which null is not needed for
			p.Type, p.Types, p.Minimum = "integer", nil, new(0.0)
		}
	}
	required := input.Required[:0]
	for _, name := range input.Required {
		if name != "wait_ms" {
			required = append(required, name)
		}
	}
	input.Required = required
}
