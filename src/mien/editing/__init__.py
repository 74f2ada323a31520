"""The parts of the expression editor: geometry, flow, shading, mouth interior, provenance."""
