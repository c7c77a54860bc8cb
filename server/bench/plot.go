package bench

import (
	"fmt"
	"html"
	"io"
	"math"
	"strings"
)

// Sizes of the picture and of its two plots, in pixels.
const (
	plotWidth, plotHeight = 560, 220
	plotLeft, plotTop     = 80, 50
	plotGap               = 90
	pictureWidth          = plotLeft + plotWidth + 40
	pictureHeight         = plotTop + 2*plotHeight + plotGap + 50
)

const (
	colorMain  = "#1f6feb"
	colorOther = "#d1580a"
)

// Plot writes an SVG: latency by percentile, and throughput and p99 over time.
func (p *Report) Plot(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", pictureWidth, pictureHeight)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	title := fmt.Sprintf("%s: %.0f/s, p50 %s, p99 %s", p.Scenario, p.Total.Throughput, duration(p.Total.P50), duration(p.Total.P99))
	text(&b, plotLeft, 22, "start", title)
	p.plotPercentiles(&b, plotTop)
	p.plotSeries(&b, plotTop+plotHeight+plotGap)
	b.WriteString("</svg>\n")
	_, err := io.WriteString(out, b.String())
	return err
}

// plotPercentiles has nines on the x axis and a logarithm on the y axis.
func (p *Report) plotPercentiles(b *strings.Builder, top float64) {
	low, high := math.Inf(1), 1.0
	for _, at := range p.Percentiles {
		if at.Micros > 0 {
			low, high = min(low, at.Micros), max(high, at.Micros)
		}
	}
	low, high = math.Floor(math.Log10(min(low, high))), math.Ceil(math.Log10(high*1.0001))
	y := func(micros float64) float64 {
		return top + plotHeight*(1-(math.Log10(max(micros, math.Pow(10, low)))-low)/(high-low))
	}
	const mostNines = 5
	x := func(percentile float64) float64 {
		return plotLeft + plotWidth*min(-math.Log10(max(1-percentile/100, 1e-9)), mostNines)/mostNines
	}
	axes(b, top, "latency by percentile")
	for e := low; e <= high; e++ {
		at := y(math.Pow(10, e))
		gridLine(b, plotLeft, at, plotLeft+plotWidth, at)
		text(b, plotLeft-6, at+4, "end", duration(math.Pow(10, e)))
	}
	for _, at := range []float64{0, 50, 90, 99, 99.9, 99.99, 99.999} {
		gridLine(b, x(at), top, x(at), top+plotHeight)
		text(b, x(at), top+plotHeight+16, "middle", fmt.Sprintf("%g%%", at))
	}
	var points []string
	for _, at := range p.Percentiles {
		if at.Micros > 0 {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(at.Percentile), y(at.Micros)))
		}
	}
	line(b, points, colorMain)
}

// plotSeries has throughput on the left axis and p99 on the right one.
func (p *Report) plotSeries(b *strings.Builder, top float64) {
	end, most, slowest := 1e-3, 1.0, 1.0
	for _, s := range p.Series {
		end, most, slowest = max(end, s.At), max(most, s.Throughput), max(slowest, s.P99)
	}
	axes(b, top, "operations a second, and p99, over time")
	for _, part := range []float64{0, 0.25, 0.5, 0.75, 1} {
		at := top + plotHeight*(1-part)
		gridLine(b, plotLeft, at, plotLeft+plotWidth, at)
		text(b, plotLeft-6, at+4, "end", fmt.Sprintf("%.0f", part*most))
		text(b, plotLeft+plotWidth-4, at-3, "end", duration(part*slowest))
		text(b, plotLeft+plotWidth*part, top+plotHeight+16, "middle", fmt.Sprintf("%.3g s", part*end))
	}
	var rate, p99 []string
	for _, s := range p.Series {
		x := plotLeft + plotWidth*s.At/end
		rate = append(rate, fmt.Sprintf("%.1f,%.1f", x, top+plotHeight*(1-s.Throughput/most)))
		p99 = append(p99, fmt.Sprintf("%.1f,%.1f", x, top+plotHeight*(1-s.P99/slowest)))
	}
	line(b, rate, colorMain)
	line(b, p99, colorOther)
}

func axes(b *strings.Builder, top float64, title string) {
	text(b, plotLeft, top-8, "start", title)
	fmt.Fprintf(b, `<rect x="%d" y="%.0f" width="%d" height="%d" fill="none" stroke="#888"/>`+"\n", plotLeft, top, plotWidth, plotHeight)
}

func text(b *strings.Builder, x, y float64, anchor, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, html.EscapeString(s))
}

func gridLine(b *strings.Builder, x1, y1, x2, y2 float64) {
	fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#ddd"/>`+"\n", x1, y1, x2, y2)
}

func line(b *strings.Builder, points []string, color string) {
	fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), color)
}
