package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Sizes of the picture, in pixels.
const (
	labelWidth = 260
	barsWidth  = 300
	columnGap  = 90
	barHeight  = 14
	groupGap   = 10
	headHeight = 60
)

var barColors = []string{"#1f6feb", "#d1580a", "#2da44e"}

// plot draws for each comparison how many times etcd's throughput we have, and
// what part of its CPU time an operation takes; the line is etcd.
func (r *results) plot() string {
	var b strings.Builder
	y := float64(headHeight)
	for _, c := range r.Comparisons {
		etcd := c.Servers[0].Median
		label(&b, 10, y+barHeight-3, fmt.Sprintf("%s, %s, members %d", c.Workload, c.Disk, c.Members))
		for i, s := range c.Servers[1:] {
			if s.Median != nil && etcd != nil {
				color := barColors[i%len(barColors)]
				bar(&b, labelWidth, y, s.Median.PerSecond/etcd.PerSecond, color)
				bar(&b, labelWidth+barsWidth+columnGap, y, s.Median.CPU/etcd.CPU, color)
			}
			y += barHeight
		}
		y += groupGap
	}
	var head strings.Builder
	fmt.Fprintf(&head, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%.0f" font-family="sans-serif" font-size="12">`+"\n",
		labelWidth+2*(barsWidth+columnGap), y+10)
	head.WriteString(`<rect width="100%" height="100%" fill="white"/>` + "\n")
	label(&head, labelWidth, 20, "throughput, times etcd's")
	label(&head, labelWidth+barsWidth+columnGap, 20, "server CPU an operation, times etcd's")
	for i, e := range r.Settings.Engines {
		fmt.Fprintf(&head, `<rect x="%d" y="%d" width="10" height="10" fill="%s"/>`+"\n", labelWidth+i*100, 32, barColors[i%len(barColors)])
		label(&head, float64(labelWidth+i*100+14), 41, e)
	}
	for _, x := range []int{labelWidth, labelWidth + barsWidth + columnGap} {
		one := float64(x) + length(1)
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%.0f" stroke="#888"/>`+"\n", one, headHeight-6, one, y)
	}
	return head.String() + b.String() + "</svg>\n"
}

// length of a bar: a tenth of etcd's is 0, ten times it the whole width.
func length(ratio float64) float64 {
	if !(ratio > 0) || math.IsInf(ratio, 0) {
		return 0
	}
	return barsWidth * min(1, max(0.01, (math.Log10(ratio)+1)/2))
}

func bar(b *strings.Builder, x int, y, ratio float64, color string) {
	fmt.Fprintf(b, `<rect x="%d" y="%.0f" width="%.1f" height="%d" fill="%s"/>`+"\n", x, y, length(ratio), barHeight-2, color)
	label(b, float64(x)+length(ratio)+4, y+barHeight-3, fmt.Sprintf("%.2f", ratio))
}

func label(b *strings.Builder, x, y float64, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f">%s</text>`+"\n", x, y, html.EscapeString(s))
}
