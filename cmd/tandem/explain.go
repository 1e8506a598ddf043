package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"tandem/ws"
)

// explained makes cmd's errors say what a person needs, and nothing else.
func explained(cmd *cobra.Command, p process) *cobra.Command {
	work := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return explain(work(cmd, args), serverAddress(cmd, p))
	}
	return cmd
}

// codeInvalid is what a server says where the request itself is wrong.
const codeInvalid = "INVALID_REQUEST_BODY"

// explain puts an error of a server, at the address that was given, into words. What kind of
// error it is stays as it was.
func explain(err error, address string) error {
	refused, ok := errors.AsType[*ws.RefusedError](err)
	switch {
	case ok && refused.Code == "":
		return exitError{exitRefused, fmt.Errorf("the server at %s answered with status %d: is it a tandem server?", withoutToken(address), refused.Status)}
	case ok && refused.Code == codeInvalid && (refused.Status == 0 || refused.Status == http.StatusBadRequest):
		return exitError{exitUsage, errors.New(refused.Message)} // an argument that only the server could judge
	case ok:
		return exitError{exitRefused, errors.New(refused.Message)}
	case errors.Is(err, ws.ErrSessionClosed):
		return exitError{exitRefused, errors.New("the session has ended")}
	case !errors.Is(err, ws.ErrLost):
		return err
	}
	text := fmt.Sprintf("%v at %s: %v", ws.ErrLost, withoutToken(address), cause(err))
	if address == defaultURL && errors.Is(err, syscall.ECONNREFUSED) {
		text += "; start it with 'tandem serve', or say with --url where it is"
	}
	return exitError{exitLost, errors.New(text)}
}

// cause is what went wrong, without the address and the layers that the error went through.
func cause(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		err = e.Err
	}
	if e, ok := errors.AsType[*os.SyscallError](err); ok {
		return e
	}
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("it was cut off")
	case errors.Is(err, net.ErrClosed):
		return errors.New("nothing was heard of the server")
	}
	return err
}

// withoutToken is an address as it may be shown.
func withoutToken(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "unix" {
		return address
	}
	u.Fragment, u.RawQuery, u.User = "", "", nil
	return u.String()
}

// needsToken puts what a server without a token in the request says into the words of the
// command line.
func needsToken(e *ws.RefusedError, token string) error {
	if e.Status == http.StatusUnauthorized && token == "" && e.Code != "" {
		e.Message = "a token is needed: set TANDEM_TOKEN or give --token-file"
	}
	return e
}
