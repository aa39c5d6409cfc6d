package console

import (
	"net/http"

	"github.com/grantway/grantway"
)

// deletePage asks whether something may really go, and says what breaks.
type deletePage struct {
	Frame
	Kind, Name, Action, Back string
	Blocked                  []string // what has to be changed first
	Breaks                   []string
	Error                    string

	remove func() error
	done   answer
}

// deletion makes the page of what the path of a request names, for whoever may delete it.
type deletion func(r *request) (*deletePage, error)

// deleting shows the page.
func deleting(d deletion) handler {
	return func(r *request) (answer, error) {
		p, err := d(r)
		if err != nil {
			return answer{}, err
		}
		return answer{page: p}, nil
	}
}

// deleted deletes what the page is about, once its name was typed.
func deleted(d deletion) handler {
	return func(r *request) (answer, error) {
		p, err := d(r)
		if err != nil {
			return answer{}, err
		}
		if r.form("confirm") != p.Name {
			p.Error = "Type the name exactly as it is: " + p.Name
			return answer{page: p, status: http.StatusUnprocessableEntity}, nil
		}
		err = p.remove()
		if e := asError(err); e != nil && e.Code == grantway.Conflict {
			p.Error = sentence(e.Message)
			return answer{page: p, status: http.StatusConflict}, nil
		}
		return p.done, err
	}
}
