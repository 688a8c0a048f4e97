package main

import "github.com/watchbox-go/watchbox"

// fsync is a flag: always, never or a duration.
type fsync watchbox.Fsync

func (f *fsync) UnmarshalText(text []byte) error {
	v, err := watchbox.ParseFsync(string(text))
	*f = fsync(v)
	return err
}
