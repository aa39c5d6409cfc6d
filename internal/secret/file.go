package secret

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/grantway/grantway"
)

// maxFile bounds a secret file: certificates with chains are the largest thing people keep in one.
const maxFile = 256 << 10

// Files is the store "file": one file per secret below a directory, the way Docker and
// Kubernetes mount them. Keys are relative paths; neither ".." nor a link leads out.
type Files struct {
	Dir string // such as /run/secrets

	// Reserved are files that belong to the hub itself, such as its key; these are not
	// readable, whatever name leads to them.
	Reserved []string
}

// Describe implements Store.
func (f Files) Describe() grantway.SecretStore {
	return grantway.SecretStore{Name: "file", Kind: "file", Detail: "files below " + f.Dir}
}

// Read implements Store. Versions do not exist here.
func (f Files) Read(_ context.Context, key, _ string) ([]byte, error) {
	root, err := os.OpenRoot(f.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notFound("file", key, key)
	}
	if err != nil {
		return nil, fault("file", unreachable, err, "directory %s cannot be opened", f.Dir)
	}
	defer root.Close()
	file, err := root.Open(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notFound("file", key, key)
	}
	if err != nil {
		return nil, fault("file", denied, err, "key %s cannot be opened below %s", key, f.Dir)
	}
	defer file.Close()
	if reserved, err := f.reserved(file); err != nil {
		return nil, fault("file", denied, err, "key %s cannot be read", key)
	} else if reserved {
		return nil, fault("file", missing, nil, "key %s belongs to the hub itself and is not readable as a secret", key)
	}
	value, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, fault("file", denied, err, "key %s cannot be read", key)
	}
	if len(value) > maxFile {
		return nil, fault("file", denied, nil, "key %s is larger than %d KiB", key, maxFile>>10)
	}
	return value, nil
}

func (f Files) reserved(file *os.File) (bool, error) {
	opened, err := file.Stat()
	if err != nil {
		return false, err
	}
	for _, path := range f.Reserved {
		if other, err := os.Stat(path); err == nil && os.SameFile(opened, other) {
			return true, nil
		}
	}
	return false, nil
}

// SignIn implements Store.
func (f Files) SignIn(context.Context) error {
	root, err := os.OpenRoot(f.Dir)
	if err != nil {
		return fault("file", unreachable, err, "directory %s cannot be opened", f.Dir)
	}
	return root.Close()
}
