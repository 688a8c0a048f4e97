package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// commandLine returns the model of the command line.
func commandLine(t *testing.T) *kong.Node {
	t.Helper()
	k, err := newParser(&commands{})
	if err != nil {
		t.Fatal(err)
	}
	return k.Model.Node
}

// everyCommand calls f with the program and each of its commands, also those that have commands below them.
func everyCommand(node *kong.Node, f func(*kong.Node)) {
	f(node)
	for _, child := range node.Children {
		everyCommand(child, f)
	}
}

// flagsOf returns the flags that a command accepts.
func flagsOf(node *kong.Node) (list []*kong.Flag) {
	for n := node; n != nil; n = n.Parent {
		list = append(list, n.Flags...)
	}
	return list
}

// shells have a program for each shell. It reads completion requests from standard input, a line with the words of
// a command line each, prints what the completion script complete.SHELL offers for the last word, and then a line "--".
var shells = map[string]string{
	"bash": `source ./complete.bash
while IFS=' ' read -r -a COMP_WORDS; do
	[[ ${COMP_WORDS[-1]} == @ ]] && COMP_WORDS[-1]=
	COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
	_watchbox
	printf '%s\n' "${COMPREPLY[@]}" --
done`,
	"zsh": `compdef() { }
compset() { PREFIX=${PREFIX#*=} }
_files() { }
_describe() {
	local one
	for one in "${(@P)2}"; do
		[[ $one == $PREFIX* ]] && print -r -- ${one%%:*}
	done
	true
}
source ./complete.zsh
while IFS=' ' read -r -A words; do
	[[ $words[-1] == @ ]] && words[-1]=
	CURRENT=$#words PREFIX=$words[-1]
	_watchbox
	print -r -- --
done`,
	"fish": `source ./complete.fish
while read line
	complete -C (string replace -r '@$' '' -- $line) | string replace -r '\t.*' ''
	echo -- --
end`,
}

// completions returns what a shell offers for each line. A line ends with "@" if its last word is empty.
func completions(t *testing.T, shell string, lines []string) map[string][]string {
	t.Helper()
	dir := t.TempDir()
	var script bytes.Buffer
	if err := complete(&script, shell, commandLine(t)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"complete." + shell: script.String(), "ask": shells[shell]} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(shell, map[string][]string{"zsh": {"-f"}, "fish": {"--no-config"}}[shell]...)
	cmd.Args = append(cmd.Args, "ask")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("%s: %v\n%s", shell, err, stderr.String())
	}
	answers := strings.Split(string(out), "--\n")
	if len(answers) != len(lines)+1 {
		t.Fatalf("%s gives %d answers to %d lines:\n%s", shell, len(answers), len(lines), out)
	}
	all := map[string][]string{}
	for i, line := range lines {
		all[line] = strings.Fields(answers[i])
		slices.Sort(all[line])
	}
	return all
}

func TestCompletionsOfferTheCommandsFlagsAndValues(t *testing.T) {
	want := map[string][]string{}
	everyCommand(commandLine(t), func(node *kong.Node) {
		names := []string{}
		for _, child := range node.Children {
			names = append(names, child.Name)
		}
		for _, p := range node.Positional {
			if p.Enum != "" {
				names = append(names, p.EnumSlice()...)
			}
		}
		if len(names) > 0 {
			want[node.FullPath()+" @"] = names
		}
		flags := []string{}
		for _, f := range flagsOf(node) {
			flags = append(flags, "--"+f.Name)
			if f.Enum != "" {
				want[node.FullPath()+" --"+f.Name+" @"] = f.EnumSlice()
			}
		}
		want[node.FullPath()+" --"] = flags
	})
	want["watchbox pu"] = []string{"pub"}
	want["watchbox token c"] = []string{"create"}
	want["watchbox pub token cr"] = nil // "token" is a group here
	want["watchbox completion f"] = []string{"fish"}
	lines := []string{}
	for line := range want {
		lines = append(lines, line)
		slices.Sort(want[line])
	}
	if len(lines) < 20 {
		t.Fatalf("there are only %d lines to complete", len(lines))
	}
	for shell := range shells {
		t.Run(shell, func(t *testing.T) {
			for line, got := range completions(t, shell, lines) {
				if !slices.Equal(got, want[line]) {
					t.Errorf("%q is completed with\n%q, want\n%q", line, got, want[line])
				}
			}
		})
	}
}

func TestTheManualHasAPageForEachCommandWithItsFlags(t *testing.T) {
	dir := t.TempDir()
	top := commandLine(t)
	if err := writePages(dir, top); err != nil {
		t.Fatal(err)
	}
	pages := 0
	everyCommand(top, func(node *kong.Node) {
		pages++
		file := filepath.Join(dir, strings.ReplaceAll(node.FullPath(), " ", "-")+".1")
		out, err := exec.Command("mandoc", "-Tutf8", "-Owidth=1000", file).Output()
		if err != nil {
			t.Errorf("%s: %v", file, err)
			return
		}
		text := strings.NewReplacer("_\b", "").Replace(string(out))
		for i := range 256 { // bold text is printed as letters over themselves
			text = strings.ReplaceAll(text, fmt.Sprintf("%c\b%c", i, i), string(rune(i)))
		}
		contains := func(what string) {
			t.Helper()
			if !strings.Contains(strings.Join(strings.Fields(text), " "), strings.Join(strings.Fields(what), " ")) {
				t.Errorf("%s does not contain %q", filepath.Base(file), what)
			}
		}
		contains("NAME " + pageName(node))
		contains("SYNOPSIS " + node.FullPath())
		contains(node.Help)
		for _, f := range flagsOf(node) {
			contains("--" + f.Name)
			contains(f.Help)
			for _, env := range f.Envs {
				contains("Environment: " + env)
			}
			if v := defaultValue(f.Value); v != "" && !f.IsBool() {
				contains("The default is " + v + ".")
			}
		}
		for _, p := range node.Positional {
			contains(p.Summary() + " " + p.Help)
		}
		for _, child := range node.Children {
			contains(pageName(child) + "(1) " + child.Help)
		}
		problems, _ := exec.Command("mandoc", "-Tlint", "-Wwarning", file).CombinedOutput()
		for problem := range strings.Lines(string(problems)) {
			if !strings.Contains(problem, "missing date") { // there is none, so that a page depends on its command alone
				t.Error(problem)
			}
		}
	})
	if files, err := os.ReadDir(dir); err != nil || len(files) != pages || pages < 16 {
		t.Errorf("there are %d pages for %d commands, %v", len(files), pages, err)
	}
}

func TestTheExampleHasAllSettingsWithTheirDefaults(t *testing.T) {
	serve := commandLine(t).Children[0]
	var b bytes.Buffer
	if err := writeExample(&b, serve); err != nil {
		t.Fatal(err)
	}
	set := map[string]string{}
	for line := range strings.Lines(b.String()) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && strings.HasPrefix(name, "#WATCHBOX_") {
			set[strings.TrimPrefix(name, "#")] = value
		} else if !strings.HasPrefix(line, "#") && line != "\n" {
			t.Errorf("the line is not a comment: %q", line)
		}
		if len(line) > 101 {
			t.Errorf("the line is long: %q", line)
		}
	}
	var plain, explicit commands
	parse(t, &plain)
	for _, f := range serve.Flags {
		for _, env := range f.Envs {
			value, ok := set[env]
			if !ok {
				t.Errorf("%s is missing", env)
			}
			if f.HasDefault && value != "" {
				t.Setenv(env, value)
			}
			if value == "" && env != "WATCHBOX_MAX_STREAMS" {
				t.Errorf("%s has no value", env)
			}
			delete(set, env)
		}
	}
	if len(set) > 0 {
		t.Errorf("these are not settings of serve: %v", set)
	}
	parse(t, &explicit)
	if !reflect.DeepEqual(plain.Serve, explicit.Serve) {
		t.Errorf("with the values of the example, serve has the settings\n%+v, want\n%+v", explicit.Serve, plain.Serve)
	}
}

func TestTheSettingsOfThePackageAreSettingsOfServe(t *testing.T) {
	text, err := os.ReadFile("../../packaging/watchbox.env")
	if err != nil {
		t.Fatal(err)
	}
	known := []string{}
	for _, f := range commandLine(t).Children[0].Flags {
		known = append(known, f.Envs...)
	}
	lines := 0
	for line := range strings.Lines(string(text)) {
		if name, _, ok := strings.Cut(line, "="); ok && strings.HasPrefix(line, "#WATCHBOX_") {
			lines++
			if name = strings.TrimPrefix(name, "#"); !slices.Contains(known, name) {
				t.Errorf("%s is not a setting", name)
			}
		}
	}
	if lines < 3 {
		t.Errorf("there are %d settings", lines)
	}
}

// parse parses the command line of a hub without flags.
func parse(t *testing.T, c *commands) {
	t.Helper()
	k, err := newParser(c)
	if err == nil {
		_, err = k.Parse([]string{"serve"})
	}
	if err != nil {
		t.Fatal(err)
	}
}
