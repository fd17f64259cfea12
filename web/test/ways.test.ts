import { beforeEach, expect, it, vi } from 'vitest';
import { api } from '../src/api/client';
import { forgetWays, ways } from '../src/phone/ways';

const server = { urls: ['turn:203.0.113.9:3478?transport=udp'], username: '1:alice', credential: 'secret', expires_s: 3600 };

beforeEach(forgetWays);

it('asks for a login once, and anew before its time is over', async () => {
  const asked = vi.spyOn(api, 'get').mockResolvedValue({ ice: [server] });
  let now = 1000;
  const { urls, username, credential } = server;
  expect(await ways(() => now)).toEqual({ iceServers: [{ urls, username, credential }] });
  now += 40 * 60_000;
  await ways(() => now);
  expect(asked).toHaveBeenCalledTimes(1);
  now += 11 * 60_000;
  await ways(() => now);
  expect(asked).toHaveBeenCalledTimes(2);
});

it('calls without a relay where the node has none or does not answer', async () => {
  vi.spyOn(api, 'get').mockResolvedValueOnce({}).mockRejectedValueOnce(new Error('away'));
  expect(await ways()).toEqual({ iceServers: [] });
  expect(await ways()).toEqual({ iceServers: [] });
});
