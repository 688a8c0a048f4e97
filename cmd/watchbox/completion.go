package main

import (
	"io"
	"os"
	"strings"
	"text/template"

	"github.com/alecthomas/kong"
)

// completion prints a completion script for a shell.
type completion struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Run prints the script for all commands.
func (c *completion) Run(k *kong.Kong) error { return complete(os.Stdout, c.Shell, k.Model.Node) }

// words are the words that may follow a command.
type words struct {
	Command string // such as "token create"; "" for the program itself
	Names   []word // commands below it, or values of an argument
	Flags   []word
}

type word struct {
	Text, Help string
	Short      string   // the flag's short form, without its dash; may be empty
	Value      bool     // the flag takes a value
	Values     []string // the values to choose from; empty for any value
}

func complete(w io.Writer, shell string, top *kong.Node) error {
	return template.Must(template.New(shell).Funcs(template.FuncMap{
		"at":    func(command string) string { return strings.TrimRight(" "+command, " ") },
		"quote": func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" },
		"fish":  func(s string) string { return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'" },
		"zsh":   strings.NewReplacer(`\`, `\\`, ":", `\:`).Replace,
		"join":  strings.Join,
	}).Parse(scripts[shell])).Execute(w, allWords(top, nil))
}

// allWords returns the words for a command and for all commands below it.
func allWords(node *kong.Node, inherited []word) []words {
	flags := append(flagWords(node), inherited...)
	names, below := choices(node), []words(nil)
	for _, child := range node.Children {
		if !child.Hidden {
			names = append(names, word{Text: child.Name, Help: child.Help})
			below = append(below, allWords(child, flags)...)
		}
	}
	return append([]words{{node.Path(), names, flags}}, below...)
}

// choices returns the values of arguments that have a fixed set of them.
func choices(node *kong.Node) (list []word) {
	for _, p := range node.Positional {
		if p.Enum != "" {
			for _, s := range p.EnumSlice() {
				list = append(list, word{Text: s, Help: p.Help})
			}
		}
	}
	return list
}

func flagWords(node *kong.Node) (list []word) {
	for _, f := range node.Flags {
		if f.Hidden {
			continue
		}
		w := word{Text: f.Name, Help: f.Help, Value: !f.IsBool()}
		if f.Short != 0 {
			w.Short = string(f.Short)
		}
		if f.Enum != "" {
			w.Values = f.EnumSlice()
		}
		list = append(list, w)
	}
	return list
}
