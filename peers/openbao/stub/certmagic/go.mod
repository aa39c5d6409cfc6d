module github.com/caddyserver/certmagic

go 1.24
