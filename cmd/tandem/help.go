package main

import (
	"fmt"
	"io"
	"strings"
)

// printServeHelp lists every flag with its variable and default. It is made from the
// table of options, so it cannot leave one out.
func printServeHelp(w io.Writer) {
	var b strings.Builder
	b.WriteString("tandem serve runs the server until SIGTERM or SIGINT, which end it in order; a second\nsignal ends it at once.\n\nUsage: tandem serve [flags]\n\n")
	flags, variables := columns()
	for _, o := range options() {
		fmt.Fprintf(&b, "  %-*s  %-*s  %s", flags, o.synopsis(), variables, o.variable(), o.help)
		if o.def != "" {
			fmt.Fprintf(&b, " (default %s)", o.def)
		}
		b.WriteByte('\n')
	}
	b.WriteString("\nA flag wins over its variable. --allow-host and --allow-origin may be repeated.\n" +
		"Without a token only loopback addresses are served.\n")
	_, _ = io.WriteString(w, b.String())
}

func (o option) synopsis() string { return "--" + o.name + " " + o.value }

// columns returns the widths of the first two columns of the help.
func columns() (flags, variables int) {
	for _, o := range options() {
		flags = max(flags, len([]rune(o.synopsis())))
		variables = max(variables, len(o.variable()))
	}
	return flags, variables
}
