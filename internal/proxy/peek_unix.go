//go:build unix

package proxy

import "syscall"

// canPeek tells whether silent can tell anything.
const canPeek = true

// silent tells whether a TCP connection is open and nothing is to be read from it. It does not
// wait.
func silent(c syscall.RawConn) bool {
	quiet := false
	err := c.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
		return true
	})
	return err == nil && quiet
}
