// Command watchbox is a message hub that speaks plain HTTP, and its tools.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/alecthomas/kong"
)

// commands is the command line.
type commands struct {
	Serve      serve            `cmd:"" help:"Run a hub."`
	Pub        pub              `cmd:"" help:"Send a message to a group."`
	Sub        sub              `cmd:"" help:"Print the messages of groups."`
	Get        get              `cmd:"" help:"Print the retained messages of groups."`
	Top        top              `cmd:"" help:"Show groups, rates, sessions and slow listeners, every five seconds."`
	Bench      bench            `cmd:"" help:"Measure what listeners, messages and deliveries cost on this machine."`
	Health     health           `cmd:"" help:"Check whether a hub is ready. If it is not, print the reason and exit with status 1."`
	Store      storeTools       `cmd:"" help:"Check, back up and restore the store of serve --data-dir."`
	Token      tokenTools       `cmd:"" help:"Create, list and revoke API tokens."`
	Completion completion       `cmd:"" help:"Print a shell completion script."`
	Man        man              `cmd:"" help:"Write manual pages, one for each command."`
	Settings   example          `cmd:"" help:"Print the settings of serve, with their defaults, as an environment file."`
	Version    kong.VersionFlag `help:"Print the version and exit." env:"-"`
}

// The exit statuses.
const (
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a mistake on the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func main() {
	err := run(os.Args[1:])
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "watchbox:", strings.TrimPrefix(err.Error(), "watchbox: "))
	if _, ok := errors.AsType[usageError](err); ok {
		os.Exit(exitUsage)
	}
	os.Exit(exitFailed)
}

func run(args []string) error {
	parser, err := newParser(&commands{})
	if err != nil {
		return err
	}
	ctx, err := parser.Parse(args)
	if err != nil {
		return usageError{fmt.Errorf("%w (see --help)", err)}
	}
	return ctx.Run()
}

func newParser(c *commands) (*kong.Kong, error) {
	options := []kong.Option{
		kong.Name("watchbox"),
		kong.Description("A message hub over plain HTTP: subscribe with a GET, publish with a POST."),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.DefaultEnvars("WATCHBOX"),
		durations,
		kong.Configuration(loadSettings),
		kong.Vars{"version": version(), "streams": fmt.Sprint(defaultStreams())},
	}
	if file := os.Getenv("WATCHBOX_CONFIG"); file != "" {
		options = append(options, kong.Configuration(loadSettings, file))
	}
	parser, err := kong.New(c, options...)
	if err != nil {
		return nil, err
	}
	parser.Model.HelpFlag.Help = "Print this help and exit."
	return parser, nil
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "watchbox (devel)"
	}
	return "watchbox " + info.Main.Version
}
