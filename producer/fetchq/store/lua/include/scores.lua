-- The score of a pending job: when it is due, its lane ('' default, 'h' high, 'l' low), and whether it is ready or
-- parked.
--
--   ready   due ms, minus 2^51 in the high lane and 2^50 in the low lane; half a ms is added to one that was parked
--   parked  2^52 + due ms, plus 2^50 in the high lane and 2^51 in the low lane: so far ahead that no worker claims it
-- All are integers or halves below 2^53, which doubles hold exactly. `fetchq/store/scores.py` reads the same.

local scores = {PARKED = 2 ^ 52, HIGH_BELOW = -(2 ^ 50 + 2 ^ 49), LOW_BELOW = -(2 ^ 49)}

local OFFSET_A, OFFSET_B = 2 ^ 51, 2 ^ 50

-- Returns lane, due in ms, and whether the job was parked before.
function scores.read(score)
  local lane, due = '', score
  if score >= scores.PARKED then
    due = score - scores.PARKED
    if due >= OFFSET_A then
      lane, due = 'l', due - OFFSET_A
    elseif due >= OFFSET_B then
      lane, due = 'h', due - OFFSET_B
    end
  elseif score < scores.HIGH_BELOW then
    lane, due = 'h', score + OFFSET_A
  elseif score < scores.LOW_BELOW then
    lane, due = 'l', score + OFFSET_B
  end
  return lane, due, due % 1 ~= 0
end

function scores.ready(lane, due)
  if lane == 'h' then
    due = due - OFFSET_A
  elseif lane == 'l' then
    due = due - OFFSET_B
  end
  return string.format(due % 1 == 0 and '%.0f' or '%.1f', due)
end

function scores.parked(lane, due)
  due = math.min(math.max(math.floor(due), 0), 2 ^ 48)
  if lane == 'h' then
    due = due + OFFSET_B
  elseif lane == 'l' then
    due = due + OFFSET_A
  end
  return string.format('%.0f', scores.PARKED + due)
end
