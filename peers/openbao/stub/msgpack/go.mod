module github.com/hashicorp/go-msgpack

go 1.24
