import { describe, expect, it, test } from 'vitest';
import { parseDialled, shortAddress } from '../src/phone/dial';

const uri = (typed: string) => {
  const dialled = parseDialled(typed, 'home.example');
  return 'uri' in dialled ? dialled.uri : dialled.problem;
};

test('somebody with an address of her own dials numbers and the echo at her node, names at her domain', () => {
  const dialled = (typed: string) => parseDialled(typed, 'mail.example', 'x.member.alt');
  expect(dialled('bob')).toMatchObject({ address: 'bob@mail.example' });
  expect(dialled('echo')).toMatchObject({ address: 'echo@x.member.alt' });
  expect(dialled('+49 30 1')).toMatchObject({ address: '+49301@x.member.alt' });
});

describe('what people type into the dial field', () => {
  it.each([
    ['bob', 'sip:bob@home.example'],
    ['  bob ', 'sip:bob@home.example'],
    ['bob@Example.NET', 'sip:bob@example.net'],
    ['sip:bob@example.net', 'sip:bob@example.net'],
    ['sips:bob@example.net;transport=tcp?Subject=x', 'sip:bob@example.net'],
    ['201', 'sip:201@home.example'],
    ['+49 (30) 123-45/6', 'sip:+49301234 56@home.example'.replace(' ', '')],
    ['tel:+49-30-123', 'sip:+4930123@home.example'],
    ['*97#', 'sip:*97%23@home.example'],
    ['bob@example.net:5070', 'sip:bob@example.net:5070'],
    ['zoë', 'sip:zo%C3%AB@home.example'],
    ['a%20b', 'sip:a%20b@home.example'],
    ['bob@192.0.2.7', 'sip:bob@192.0.2.7'],
    ['bob@[2001:db8::1]', 'sip:bob@[2001:db8::1]'],
    ['carol@x@example.net', 'sip:carol%40x@example.net'],
  ])('%s is %s', (typed, expected) => expect(uri(typed)).toBe(expected));

  it.each([
    ['', 'empty'],
    ['@example.net', 'empty'],
    ['bob baker', 'spaces'],
    ['bob@exa mple', 'spaces'],
    ['bob@', 'host'],
    ['bob@-x-', 'host'],
    ['bob@a_b', 'host'],
    ['mailto:bob@example.net', 'scheme'],
    ['javascript:alert(1)', 'scheme'],
  ])('%s is refused: %s', (typed, problem) => expect(uri(typed)).toBe(problem));

  it('cannot smuggle headers or a second URI', () => {
    expect(uri('bob>,<sip:eve')).not.toMatch(/[<>]/);
    expect(uri('bob\r\nEvil: x')).toBe('spaces');
  });
});

describe('how an address is shown', () => {
  it('leaves out only its own domain', () => {
    expect(shortAddress('bob@home.example', 'home.example')).toBe('bob');
    expect(shortAddress('bob@not.home.example', 'home.example')).toBe('bob@not.home.example');
  });
});
