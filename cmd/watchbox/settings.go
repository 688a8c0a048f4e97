package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// configFile is a flag that names a file of settings. An empty name is an error, usually from
// an unset variable: kong would read it as the current folder.
type configFile string

// BeforeResolve implements a hook of kong.
func (configFile) BeforeResolve(k *kong.Kong, ctx *kong.Context, trace *kong.Path) error {
	file := string(ctx.FlagValue(trace.Flag).(configFile))
	if file == "" {
		return errors.New("--config: the name of the file is empty")
	}
	s, err := k.LoadConfig(file)
	if err != nil {
		return err
	}
	ctx.AddResolver(s)
	return nil
}

// settings are the settings of a YAML file, named like the flags of serve.
type settings map[string]any

func loadSettings(r io.Reader) (kong.Resolver, error) {
	s := settings{}
	d := yaml.NewDecoder(r)
	if err := d.Decode(&s); err != nil && err != io.EOF {
		return nil, fmt.Errorf("config file: %w", err)
	}
	if err := d.Decode(&s); err != io.EOF {
		return nil, errors.New("config file: more than one YAML document")
	}
	return s, nil
}

// Validate refuses a name that is not a flag of serve.
func (s settings) Validate(app *kong.Application) error {
	known := map[string]bool{}
	for _, node := range app.Leaves(false) {
		if node.Name != "serve" {
			continue
		}
		for _, f := range node.Flags {
			known[f.Name] = f.Name != "config"
		}
	}
	for name := range s {
		if !known[name] {
			return fmt.Errorf("config file: unknown setting %q", name)
		}
	}
	return nil
}

// Resolve returns the value of a flag in the file, unless the environment has one.
func (s settings) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, name := range flag.Envs {
		if _, ok := os.LookupEnv(name); ok {
			return nil, nil
		}
	}
	v := s[flag.Name]
	list, ok := v.([]any)
	if !ok {
		return oneSetting(v)
	}
	if !flag.IsSlice() {
		return nil, errors.New("config file: the value is a list, but the setting takes one value")
	}
	values := make([]any, len(list))
	for i := range list {
		var err error
		if values[i], err = oneSetting(list[i]); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// oneSetting returns a value of the file in the form of the command line.
func oneSetting(v any) (any, error) {
	switch reflect.ValueOf(v).Kind() {
	case reflect.Invalid, reflect.Bool:
		return v, nil
	case reflect.Slice, reflect.Map:
		return nil, errors.New("config file: a value must be text, a number, true or false")
	}
	return fmt.Sprint(v), nil
}
