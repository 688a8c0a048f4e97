package access

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// tokenFile is the JSON document of a token file.
type tokenFile struct {
	Version int        `json:"version"` // 1
	Tokens  []APIToken `json:"tokens"`
}

const tokenFileVersion = 1

// ReadTokens returns the API tokens in a file. If mayMiss is true, a file that does not exist counts as empty.
func ReadTokens(path string, mayMiss bool) ([]APIToken, error) {
	b, err := os.ReadFile(path)
	if mayMiss && errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("token file: %w", err)
	}
	list, err := parseTokens(b)
	if err != nil {
		return nil, fmt.Errorf("token file %s: %w", path, err)
	}
	return list, nil
}

func parseTokens(b []byte) ([]APIToken, error) {
	var f tokenFile
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("not a token file: %w", plain(err))
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("not a token file: it has more than one JSON document")
	}
	if f.Version != tokenFileVersion {
		return nil, fmt.Errorf("version %d is not supported: this program reads version %d", f.Version, tokenFileVersion)
	}
	names := map[string]bool{}
	for i := range f.Tokens {
		t := &f.Tokens[i]
		if err := t.check(); err != nil {
			return nil, fmt.Errorf("token %d: %w", i+1, err)
		}
		if sum, err := hex.DecodeString(t.SHA256); err != nil || len(sum) != sha256.Size {
			return nil, fmt.Errorf("token %q: sha256 must be %d hexadecimal digits", t.Name, 2*sha256.Size)
		}
		if names[t.Name] {
			return nil, fmt.Errorf("two tokens are named %q", t.Name)
		}
		names[t.Name] = true
	}
	return f.Tokens, nil
}

// plain returns an error of encoding/json in words for the operator, who does not know the program's types.
func plain(err error) error {
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%s cannot be a JSON %s", cmp.Or(t.Field, "the document"), t.Value)
	}
	if err == io.EOF {
		return errors.New("it is empty")
	}
	return err
}

// AddToken adds a token to a file. It creates the file with mode 0600 if it does not exist.
func AddToken(path string, t *APIToken) error {
	return editTokens(path, func(list []APIToken) ([]APIToken, error) {
		if slices.ContainsFunc(list, func(o APIToken) bool { return o.Name == t.Name }) {
			return nil, &nameError{fmt.Sprintf("a token named %q exists: choose another name, or revoke it first", t.Name), ErrTokenExists}
		}
		return append(list, *t), nil
	})
}

// RemoveToken removes a token from a file.
func RemoveToken(path, name string) error {
	return editTokens(path, func(list []APIToken) ([]APIToken, error) {
		left := slices.DeleteFunc(slices.Clone(list), func(t APIToken) bool { return t.Name == name })
		if len(left) == len(list) {
			return nil, &nameError{fmt.Sprintf("there is no token named %q", name), ErrTokenUnknown}
		}
		return left, nil
	})
}

// nameError is an error with the name of a token in its text.
type nameError struct {
	text string
	err  error
}

func (e *nameError) Error() string { return e.text }
func (e *nameError) Unwrap() error { return e.err }

// editTokens replaces the tokens in a file with the result of edit. The replacement is atomic: a reader sees
// either the old file or the new one. Processes that edit the file at the same time wait for each other. If path
// is a link, the file that it leads to is edited: a hub that reads that file directly must see the change.
func editTokens(path string, edit func([]APIToken) ([]APIToken, error)) error {
	if file, err := filepath.EvalSymlinks(path); err == nil {
		path = file
	}
	unlock, err := lockFile(path)
	if err != nil {
		return fmt.Errorf("token file: %w", err)
	}
	defer unlock()
	list, err := ReadTokens(path, true)
	if err != nil {
		return err
	}
	if list, err = edit(list); err != nil {
		return fmt.Errorf("token file %s: %w", path, err)
	}
	b, err := json.MarshalIndent(tokenFile{tokenFileVersion, list}, "", "  ")
	if err != nil {
		return err
	}
	if err := replaceFile(path, append(b, '\n')); err != nil {
		return fmt.Errorf("token file: %w", err)
	}
	return nil
}

// replaceFile writes a file with mode 0600 in the same directory, syncs it and renames it to path. The file keeps its
// owner: a hub that runs as another user could not read it otherwise, and would keep a revoked token.
func replaceFile(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // of mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(b)
	if err = errors.Join(err, keepOwner(f, path), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
