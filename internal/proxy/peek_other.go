//go:build !unix

package proxy

import "syscall"

const canPeek = false

func silent(syscall.RawConn) bool { return false }
