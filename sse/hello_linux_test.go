package sse

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// bytewise is a connection that returns a few bytes at a time.
type bytewise struct {
	net.Conn
	bytes *bytes.Reader
	most  int
}

func (c bytewise) Read(p []byte) (int, error) { return c.bytes.Read(p[:min(c.most, len(p))]) }

func TestALongClientHelloIsDivided(t *testing.T) {
	for _, length := range []int{0, 1, longHello, longHello + 1, 1500, 4097, maxHello} {
		for _, most := range []int{recordHeader, 7, 1 << 20} {
			sent := bytes.Repeat([]byte("0123456789"), length/10+1)[:length]
			input := append([]byte{handshakeRecord, 3, 1, byte(length >> 8), byte(length)}, sent...)
			rest := "\x16\x03\x03\xff\xffthe next record is not divided"
			conn := &helloConn{Conn: bytewise{bytes: bytes.NewReader(append(input, rest...)), most: most}}
			var got []byte
			for header := make([]byte, recordHeader); len(got) < length || length == 0; {
				if _, err := io.ReadFull(conn, header); err != nil {
					t.Fatal(err)
				}
				n := int(header[3])<<8 | int(header[4])
				if header[0] != handshakeRecord || header[1] != 3 || header[2] != 1 || n > longHello {
					t.Fatalf("a header is %x", header)
				}
				record := make([]byte, n)
				if _, err := io.ReadFull(conn, record); err != nil {
					t.Fatal(err)
				}
				if got = append(got, record...); length == 0 {
					break
				}
			}
			if !bytes.Equal(got, sent) {
				t.Errorf("%d bytes: the ClientHello differs", length)
			}
			if after, err := io.ReadAll(conn); err != nil || string(after) != rest {
				t.Errorf("after %d bytes there is %q, %v", length, after, err)
			}
		}
	}
}

func TestInputThatIsNoHandshakeIsNotChanged(t *testing.T) {
	for _, input := range []string{
		"", "\x16\x03", "GET / HTTP/1.1\r\n\r\n", "\x17\x03\x03\x08\x00" + strings.Repeat("x", 1<<11),
		"\x16\x03\x01\x40\x01" + strings.Repeat("x", 1<<14+1), "\x80\x2e\x01\x00\x02" + strings.Repeat("x", 100),
	} {
		for _, most := range []int{1, 4, 1 << 20} {
			got, err := io.ReadAll(&helloConn{Conn: bytewise{bytes: bytes.NewReader([]byte(input)), most: most}})
			if err != nil || string(got) != input {
				t.Errorf("%d bytes at a time, %q becomes %q, %v", most, input, got, err)
			}
		}
	}
}

// TestAFirstRecordThatIsTooLongIsRefused: RFC 8446, section 5.1, requires the alert record_overflow.
func TestAFirstRecordThatIsTooLongIsRefused(t *testing.T) {
	leavesNothing(t)
	o := openOver(t, tls13, poller(t, 0))
	for _, length := range []int{maxHello + 1, maxHello + 2048} {
		socket, err := net.Dial("tcp", o.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		_ = socket.SetDeadline(time.Now().Add(time.Minute))
		const clientHello, body = 1, 0xff00 // the length of the ClientHello
		record := append([]byte{handshakeRecord, 3, 1, byte(length >> 8), byte(length)}, make([]byte, length)...)
		copy(record[recordHeader:], []byte{clientHello, 0, body >> 8, body & 0xff})
		if _, err := socket.Write(record); err != nil {
			t.Fatal(err)
		}
		alert := make([]byte, recordHeader+2)
		if _, err := io.ReadFull(socket, alert); err != nil {
			t.Fatal(err)
		}
		if got := tls.AlertError(alert[recordHeader+1]); alert[0] != 21 || got != 22 {
			t.Errorf("a record of %d bytes is answered with %x: %v", length, alert, got)
		}
	}
}

func TestHandshakesOfAllLengths(t *testing.T) {
	secureOnly(t, func(t *testing.T, w wire) {
		o := openOver(t, w, poller(t, 0))
		for _, names := range []int{0, 1, 10, 30, 100, 300} {
			socket, err := net.Dial("tcp", o.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer socket.Close()
			offer := []string{"http/1.1"}
			for i := range names {
				offer = append(offer, fmt.Sprintf("a-protocol-with-a-long-name-that-nobody-has-%d", i))
			}
			conn := tls.Client(socket, &tls.Config{InsecureSkipVerify: true, MaxVersion: uint16(w), NextProtos: offer})
			if err := conn.Handshake(); err != nil {
				t.Errorf("%d names: %v", names, err)
			}
		}
	})
}
