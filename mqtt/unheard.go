package mqtt

import "github.com/mochi-mqtt/server/v2/packets"

// Memory of CONNECTs that have not arrived completely. They share it among themselves: nobody knows yet whether their
// clients may use the hub. 10,000 connections with a part of a CONNECT take less than 20 MB together, connections included.
const (
	freeUnheard = 256     // bytes that each connection may keep without counting them
	maxUnheard  = 4 << 20 // bytes of all larger parts
)

// unheard is how many bytes a connection takes of maxUnheard.
type unheard int32

// hold takes the memory for a part of a CONNECT, instead of what it held before. An error is the end of the connection.
func (u *unheard) hold(s *Server, bytes int) error {
	if bytes <= freeUnheard {
		bytes = 0
	}
	more := bytes - int(*u)
	if more == 0 {
		return nil
	}
	*u = unheard(bytes)
	if s.unheard.Add(int64(more)) > maxUnheard && more > 0 {
		return packets.ErrServerBusy
	}
	return nil
}
