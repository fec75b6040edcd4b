"""Words that `entities` needs: what opens sentences without being a name, and what only looks like one."""

from __future__ import annotations

_OPENERS = """
a about above absolutely according actually after afterwards again agreed ah aha ahh all almost alright also
although always am amazing among an and another any anybody anyone anything anytime anyway apart apparently
are aren't around art as ask at aw awesome aww away awful back bad based be beautiful because been before
being believe best better between big both bravo break bring brilliant build but buy by bye call can can't
cannot care caring catch certainly change check cheers choose clearly close come coming congrats
congratulations cool could couldn't count crazy creating cute dad daddy damn dang days dear definitely
despite did didn't do does doesn't doing don't done down dude due during each early eat either else end
enjoy enough especially even ever every everybody everyone everything exactly excited exciting excuse family
fantastic far feel feeling few finally find fine first focus follow for fortunately friends from fun funny
get getting give giving glad go going gonna good goodbye goodness gosh got gotta gotcha great guess guys had
haha hahaha happy hard has hate have haven't having he he'd he'll he's hear hearing hello help helping her
here here's hers hey hi him his hmm hold home honestly hope hopefully hoping how how'd how's however huge
huh i if imagine impressive in incredible indeed inside instead interesting into is isn't it it'd it'll it's
its join just keep keeping kids kind kinda know last lastly late lately later learning least leave less let
let's life like little live living lol long look looking looks lots love loved lovely loving lucky luckily
make making man many maybe me mean meanwhile meet might mine miss mom moments more most mostly mother much
mum music must my myself nah name nature near need neither never new next nice no nobody none nope nor not
nothing now nowadays obviously of off oh ok okay old omg on once one only oops open or other others
otherwise ouch our ours out outside over overall own painting people perfect perhaps personally phew photo
pick picture plans play playing please plus pretty probably proud put quick quite rather read reading ready
real really recently relax remember respect right run running sad same saw say saying says see seeing seems
self send sending several shall share sharing she she'd she'll she's short should show similarly simply
since sleep smart so some somebody someone something sometimes soon sorry sounds spending stay staying still
stop strong such super support supporting sure surely surprisingly sweet take taking talk talking team tell
test thank thankfully thanks that that'd that'll that's the their theirs them then there there's therefore
these they they'd they'll they're they've thing things think this those though three through throughout thus
time times to today together tomorrow tonight too totally travel truly trust try trying two ugh um under
unfortunately unless unlike until up upon us use used using usually very wait walking want was wasn't watch
watching way we we'd we'll we're we've wear welcome well went were weren't what what's whatever when
whenever where where's wherever whether which while who who's whoever whole whose why will wish with within
without woah won't wonder wonderful wondering work working worth would wouldn't wow writing yay yea yeah yep
yes yesterday yet yikes you you'd you'll you're you've your yours yourself yup
"""
COMMON = frozenset(_OPENERS.split())
"""In lower case: words that open sentences, or stand capitalised alone, without being names."""

_NEVER = """
I I'm I've I'd I'll OK TV PM AM LOL OMG ASAP FYI BTW IDK IMO TBH DIY FAQ PS RSVP USB PC Monday Tuesday
Wednesday Thursday Friday Saturday Sunday Mondays Tuesdays Wednesdays Thursdays Fridays Saturdays Sundays
January February March April May June July August September October November December Jan Feb Mar Apr Jun
Jul Aug Sep Sept Oct Nov Dec Mr Mrs Ms Dr Prof Mom Dad Mum Mommy Daddy Mama Papa Yes No Oh Hi Hey Thanks
Image Photo
"""
NEVER = frozenset(_NEVER.split())
"""As written: never a name, nor part of one."""

_PEOPLE_DO = """
has had said told tells says asked thinks thought lives lived moved moves works worked loves loved likes
liked hates hated wants wanted went goes got gets called calls came comes bought made makes gave sent wrote
plays played started starts joined left met married knows knew feels felt visited invited helped needs
prefers enjoys owns studies studied teaches taught bakes cooks runs ran never always did does doesn't didn't
won't
"""
VERBS_OF_PEOPLE = frozenset(_PEOPLE_DO.split())
"""What a single word at the start of a sentence is followed by if it is a name ("Painting is" is none)."""
