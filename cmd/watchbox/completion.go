package main

import (
	"io"
	"os"
	"slices"
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
	Name  string // of the command; "" for the program itself
	Words []word
}

type word struct {
	Text, Help string
	Value      bool // the flag takes a value
}

func complete(w io.Writer, shell string, top *kong.Node) error {
	all := []words{{Words: flags(top)}}
	for _, node := range top.Children {
		if !node.Hidden {
			all[0].Words = append(all[0].Words, word{Text: node.Name, Help: node.Help})
			all = append(all, words{Name: node.Name, Words: slices.Concat(choices(node), flags(node), flags(top))})
		}
	}
	return template.Must(template.New(shell).Funcs(template.FuncMap{
		"quote": func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" },
		"zsh":   strings.NewReplacer(":", `\:`).Replace,
	}).Parse(scripts[shell])).Execute(w, all)
}

// choices returns the values of an argument that has a fixed set of them.
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

func flags(node *kong.Node) (list []word) {
	for _, f := range node.Flags {
		if !f.Hidden {
			list = append(list, word{Text: "--" + f.Name, Help: f.Help, Value: !f.IsBool()})
		}
	}
	return list
}

// scripts are the templates. After a flag that takes a value, and for any other word, the shell completes
// file names.
var scripts = map[string]string{
	"bash": `_watchbox() {
	local words=
	case ${COMP_WORDS[1]} in
{{- range .}}{{if .Name}}
	{{.Name}}) words={{template "list" .Words}} ;;{{end}}{{end}}
	esac
	((COMP_CWORD == 1)) && words={{template "list" (index . 0).Words}}
	COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _watchbox watchbox
{{define "list"}}'{{range $i, $w := .}}{{if $i}} {{end}}{{$w.Text}}{{end}}'{{end}}`,

	"zsh": `#compdef watchbox
_watchbox() {
	local -a list
	if ((CURRENT == 2)); then
		list=({{template "list" (index . 0).Words}})
	else
		case $words[2] in
{{- range .}}{{if .Name}}
		{{.Name}}) list=({{template "list" .Words}}) ;;{{end}}{{end}}
		esac
	fi
	[[ $PREFIX == -* || $CURRENT == 2 ]] && _describe watchbox list || _files
}
compdef _watchbox watchbox
{{define "list"}}{{range $i, $w := .}}{{if $i}} {{end}}{{printf "%s:%s" $w.Text (zsh $w.Help) | quote}}{{end}}{{end}}`,

	"fish": `{{range .}}{{$command := .Name}}{{range .Words}}complete -c watchbox
{{- if $command}} -n '__fish_seen_subcommand_from {{$command}}'{{else}} -n __fish_use_subcommand{{end}}
{{- if eq (slice .Text 0 2) "--"}} -l {{slice .Text 2}}{{if .Value}} -r{{end}}{{else}} -a {{.Text}}{{end}} -d {{quote .Help}}
{{end}}{{end}}`,
}
