package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
)

// tokenTools edit the token file of serve --token-file. A running hub notices changes within two seconds.
type tokenTools struct {
	Create tokenCreate `cmd:"" help:"Create an API token and print it. It cannot be printed again."`
	List   tokenList   `cmd:"" help:"List the API tokens of a token file."`
	Revoke tokenRevoke `cmd:"" help:"Remove an API token and end the streams that use it."`
}

type tokenCreate struct {
	Name      string        `arg:"" help:"Name of the token, shown as the subject of its sessions."`
	Subscribe []string      `help:"Allow subscribing to groups that this filter matches. May be repeated." placeholder:"FILTER" env:"-"`
	Publish   []string      `help:"Allow publishing to groups that this filter matches. May be repeated." placeholder:"FILTER" env:"-"`
	Admin     bool          `help:"Allow administration: sessions, policies, purges, metrics." env:"-"`
	Expires   time.Duration `help:"How long the token is valid; 0: no expiry." default:"0s" env:"-"`
	TokenFile string        `help:"File that holds the hashes of API tokens; created if it does not exist." required:"" placeholder:"FILE"`
}

// Run adds the token to the file and prints it.
func (c *tokenCreate) Run() error {
	now := time.Now()
	t := access.APIToken{Name: c.Name, Subscribe: c.Subscribe, Publish: c.Publish, Admin: c.Admin}
	switch {
	case c.Expires < 0:
		return usageError{errors.New("--expires must be 0 or more; 0 means no expiry")}
	case c.Expires > 0:
		end := now.Add(c.Expires).UTC().Truncate(time.Second)
		t.Expires = &end
	}
	token, err := access.NewToken(&t, now)
	if err != nil {
		return usageError{err}
	}
	if err := access.AddToken(c.TokenFile, &t); err != nil {
		return err
	}
	if len(c.Subscribe) == 0 && len(c.Publish) == 0 && !c.Admin {
		fmt.Fprintln(os.Stderr, "watchbox: this token allows nothing: give it --subscribe, --publish or --admin")
	}
	_, err = fmt.Println(token)
	return err
}

type tokenList struct {
	TokenFile string `help:"File that holds the hashes of API tokens." required:"" placeholder:"FILE"`
}

// Run prints a line for each token.
func (c *tokenList) Run() error {
	list, err := access.ReadTokens(c.TokenFile, false)
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b access.APIToken) int { return strings.Compare(a.Name, b.Name) })
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "NAME\tSUBSCRIBE\tPUBLISH\tADMIN\tEXPIRES")
	for _, t := range list {
		expires := "never"
		if t.Expires != nil {
			expires = t.Expires.Format(time.RFC3339)
			if t.Expires.Before(time.Now()) {
				expires += " (expired)"
			}
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", t.Name, orDash(t.Subscribe), orDash(t.Publish), yesNo(t.Admin), expires)
	}
	return w.Flush()
}

func orDash(list []string) string {
	if len(list) == 0 {
		return "-"
	}
	return strings.Join(list, " ")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

type tokenRevoke struct {
	Name      string `arg:"" help:"Name of the token."`
	TokenFile string `help:"File that holds the hashes of API tokens." required:"" placeholder:"FILE"`
}

// Run removes the token from the file.
func (c *tokenRevoke) Run() error { return access.RemoveToken(c.TokenFile, c.Name) }
