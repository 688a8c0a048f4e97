package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// position is the id of the last message that sub has handled, kept in a file if --resume names one.
type position struct {
	id   string
	file *os.File
}

// openPosition reads the file and creates it if it does not exist. An empty name means no file.
func openPosition(name string) (*position, error) {
	if name == "" {
		return &position{}, nil
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	const most = 256 // bytes, more than any id has
	b, err := io.ReadAll(io.LimitReader(f, most))
	id := strings.TrimSpace(string(b))
	if err == nil && strings.ContainsAny(id, " \r\n\x00") {
		err = fmt.Errorf("%s does not contain a position of watchbox sub", name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &position{id, f}, nil
}

// set stores the id of a handled message. A retained message has no id.
func (p *position) set(id string) error {
	if id == "" || id == p.id {
		return nil
	}
	p.id = id
	if p.file == nil {
		return nil
	}
	if _, err := p.file.WriteAt([]byte(id+"\n"), 0); err != nil {
		return err
	}
	return p.file.Truncate(int64(len(id) + 1))
}

func (p *position) close() {
	if p.file != nil {
		_ = p.file.Close() // each write has been checked
	}
}
