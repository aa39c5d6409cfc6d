package console

import (
	"fmt"
	"strings"
)

// diagram is a sequence diagram: who says what to whom, from top to bottom.
//
//	program      /oauth/token
//	   │ client_id …  │
//	   │─────────────▶│
type diagram struct {
	Width, Height int
	Lanes         []lane
	Arrows        []arrow
}

type lane struct {
	Name string
	X    int
}

// arrow is a message.
type arrow struct {
	From, To int // x
	Y        int
	Lines    []string
}

// Middle is where the text stands.
func (a arrow) Middle() int { return (a.From + a.To) / 2 }

// Above is the height of the first line of the text.
func (a arrow) Above() int { return a.Y - 8 - lineHeight*(len(a.Lines)-1) }

// Head is the path of the tip.
func (a arrow) Head() string {
	back := -8
	if a.To < a.From {
		back = 8
	}
	return fmt.Sprintf("M%d %d l%d -5 v10 z", a.To, a.Y, back)
}

const (
	laneWidth  = 250
	lineChars  = 38 // of text that fits between two lanes
	lineHeight = 15
)

// newDiagram reads messages such as "program → hub: client_id, scope".
func newDiagram(messages []string) (d diagram) {
	at := func(name string) int {
		name = strings.TrimSpace(name)
		for _, l := range d.Lanes {
			if l.Name == name {
				return l.X
			}
		}
		d.Lanes = append(d.Lanes, lane{name, laneWidth/2 + laneWidth*len(d.Lanes)})
		return d.Lanes[len(d.Lanes)-1].X
	}
	y := 44
	for _, message := range messages {
		who, text, _ := strings.Cut(message, ": ")
		from, to, _ := strings.Cut(who, "→")
		a := arrow{From: at(from), To: at(to), Lines: wrap(text, lineChars)}
		y += 26 + lineHeight*len(a.Lines)
		a.Y = y
		d.Arrows = append(d.Arrows, a)
	}
	d.Width, d.Height = laneWidth*len(d.Lanes), y+24
	return d
}

// wrap breaks a text between words, into lines of about so many characters.
func wrap(text string, chars int) (lines []string) {
	for word := range strings.FieldsSeq(text) {
		if n := len(lines); n > 0 && len(lines[n-1])+1+len(word) <= chars {
			lines[n-1] += " " + word
		} else {
			lines = append(lines, word)
		}
	}
	return lines
}
