// A QR code that the node has drawn: only its shape is taken out of the answer, so that nothing else of it gets into the page.
export function Qr({ svg, label }: { svg: string; label: string }) {
  const drawn = shape(svg);
  if (!drawn) return null;
  return (
    <svg className="qr" viewBox={drawn.viewBox} role="img" aria-label={label} shapeRendering="crispEdges">
      <rect x={drawn.x} y={drawn.y} width="100%" height="100%" fill="#fff" />
      {drawn.paths.map((path, index) => <path key={index} d={path} fill="#000" />)}
      {drawn.rects.map((rect, index) => <rect key={index} {...rect} fill="#000" />)}
    </svg>
  );
}

type Rect = Record<'x' | 'y' | 'width' | 'height', string>;

export function shape(svg: string): { viewBox: string; x: string; y: string; paths: string[]; rects: Rect[] } | undefined {
  const read = new DOMParser().parseFromString(svg, 'image/svg+xml').documentElement;
  const number = (name: string) => read.getAttribute(name)?.replace(/px$/, '') ?? '0';
  const viewBox = read.getAttribute('viewBox') ?? `0 0 ${number('width')} ${number('height')}`;
  if (read.nodeName !== 'svg' || !/^[-\d. ]+$/.test(viewBox)) return undefined;
  const [x = '0', y = '0'] = viewBox.split(' ');
  const dark = (element: Element) => !/^(#fff(fff)?|white)$/i.test(element.getAttribute('fill') ?? '#000');
  const paths = [...read.querySelectorAll('path')].filter(dark).flatMap(path => path.getAttribute('d') ?? []).filter(d => /^[\dMmHhVvLlZz\s.,-]*$/.test(d));
  const rects = [...read.querySelectorAll('rect')].filter(dark).map(rect => ({
    x: rect.getAttribute('x') ?? '0', y: rect.getAttribute('y') ?? '0', width: rect.getAttribute('width') ?? '1', height: rect.getAttribute('height') ?? '1',
  }));
  return paths.length + rects.length > 0 ? { viewBox, x, y, paths, rects } : undefined;
}
