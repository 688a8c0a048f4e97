package delivery

// Parked reports whether the stream's shard has taken it over.
func (s *Stream) Parked() bool { return s.parked.Load() }
