-- The score of a pending job: when it is due, its lane ('' default, 'h' high, 'l' low), and whether it is ready or
-- parked.
--
--   ready   due ms, minus 2^51 in the high lane and 2^50 in the low lane; half a ms is added to one that was parked
--   parked  2^52 + due ms, plus 2^50 in the high lane and 2^51 in the low lane: so far ahead that no worker claims it
-- All are integers or halves below 2^53, which doubles hold exactly. `fetchq/store/scores.py` reads the same.

local LARGE_OFFSET, SMALL_OFFSET = 2 ^ 51, 2 ^ 50 -- between the lanes

local scores = {PARKED = 2 ^ 52, HIGH_BELOW = -(2 ^ 50 + 2 ^ 49), LOW_BELOW = -(2 ^ 49)}

-- Returns lane, due in ms, and whether the job was parked before.
function scores.read(score)
  local lane, due = '', score
  if score >= scores.PARKED then
    due = score - scores.PARKED
    if due >= LARGE_OFFSET then
      lane, due = 'l', due - LARGE_OFFSET
    elseif due >= SMALL_OFFSET then
      lane, due = 'h', due - SMALL_OFFSET
    end
  elseif score < scores.HIGH_BELOW then
    lane, due = 'h', score + LARGE_OFFSET
  elseif score < scores.LOW_BELOW then
    lane, due = 'l', score + SMALL_OFFSET
  end
  return lane, due, due % 1 ~= 0
end

function scores.ready(lane, due)
  if lane == 'h' then
    due = due - LARGE_OFFSET
  elseif lane == 'l' then
    due = due - SMALL_OFFSET
  end
  return string.format(due % 1 == 0 and '%.0f' or '%.1f', due)
end
