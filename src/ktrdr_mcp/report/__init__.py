"""Reports: what a training measured, drawn and explained as HTML, SVG and text."""
