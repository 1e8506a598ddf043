package ws_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"tandem/sessions"
	"tandem/ws"
)

// Run something, wait for it, and have its output.
func ExampleSession_Run() {
	server, stop := exampleServer()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	s, err := ws.Create(ctx, server, &ws.CreateOptions{Cwd: "/", Ephemeral: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()

	for _, code := range []string{"x=41", "echo $((x + 1)) in $PWD; exit 3"} {
		c, err := s.Run(ctx, ws.Run{Code: code})
		if err != nil {
			fmt.Println(err)
			return
		}
		res, err := c.Wait(ctx)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s with %d: %q\n", res.Reason, *res.ExitCode, res.Stdout)
	}
	// Output:
	// exited with 0: ""
	// exited with 3: "42 in /\n"
}

// Take the output as it comes, and interrupt the command when there was enough of it.
func ExampleCommand_Next() {
	server, stop := exampleServer()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	s, err := ws.Create(ctx, server, &ws.CreateOptions{Ephemeral: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	c, err := s.Run(ctx, ws.Run{Code: "while :; do echo tick; sleep 0.01; done"})
	if err != nil {
		fmt.Println(err)
		return
	}
	seen := 0
	for {
		o, err := c.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		if seen += len(o.Data); seen >= len("tick\ntick\n") {
			_ = c.Interrupt(ctx, false) // it may have been interrupted already
		}
	}
	res, _ := c.Wait(ctx)
	fmt.Println(res.Reason, *res.ExitCode)
	// Output: interrupted 130
}

// Feed a command's standard input, and have its output written as it comes.
func ExampleCommand_Stdin() {
	server, stop := exampleServer()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	s, err := ws.Create(ctx, server, &ws.CreateOptions{Ephemeral: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	c, err := s.Run(ctx, ws.Run{Code: "tr a-z A-Z", Stdin: sessions.OpenStdin})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprintln(c.Stdin(), "hello")
	c.Stdin().Close()
	if _, err := c.Copy(ctx, os.Stdout, os.Stderr); err != nil {
		fmt.Println(err)
	}
	// Output: HELLO
}

// Go on where another client, or this program in an earlier life, has stopped.
func ExampleFollow() {
	server, stop := exampleServer()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	s, err := ws.Create(ctx, server, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	position := s.Position()
	c, err := s.Run(ctx, ws.Run{Code: "echo while nobody looked"})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := c.Wait(ctx); err != nil {
		fmt.Println(err)
		return
	}

	errEnough := errors.New("enough")
	err = ws.Follow(ctx, server, s.ID(), &ws.SessionOptions{After: &position, View: true}, func(m ws.Message) error {
		switch {
		case m.IsOutput():
			fmt.Printf("%s: %s", m.Type, m.Data)
		case m.Type == ws.TypeRunFinished:
			fmt.Println(m.Reason)
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		fmt.Println(err)
	}
	// Output:
	// stdout: while nobody looked
	// exited
}
