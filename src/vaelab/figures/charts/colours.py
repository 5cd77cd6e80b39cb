"""Colours that are told apart with any colour vision (Okabe & Ito, 2008, https://jfly.uni-koeln.de/color/)."""

BLACK, ORANGE, SKY_BLUE, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
OKABE_ITO = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY_BLUE, YELLOW, BLACK)  # in the order to be used
GREY = "#999999"  # of what is not the point
