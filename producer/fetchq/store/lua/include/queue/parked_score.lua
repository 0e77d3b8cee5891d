-- The score of a parked job.

--#include queue/scores

function scores.parked(lane, due)
  due = math.min(math.max(math.floor(due), 0), 2 ^ 48)
  if lane == 'h' then
    due = due + SMALL_OFFSET
  elseif lane == 'l' then
    due = due + LARGE_OFFSET
  end
  return string.format('%.0f', scores.PARKED + due)
end
