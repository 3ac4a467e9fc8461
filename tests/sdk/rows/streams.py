from table import bad, ok


def rows(scene):
    return [
        ok("DescribeLiveStreamOnlineList", lambda a: (a["TotalNum"], a["TotalPage"], a["OnlineInfo"]) == (0, 0, []), PageNum=1, PageSize=10, DomainName=scene.domain),
        bad("InvalidParameterValue", "DescribeLiveStreamOnlineList", PageSize=101),
        bad("InvalidParameterValue", "DescribeLiveStreamOnlineList", PageSize=9),
        bad("InvalidParameterValue", "DescribeLiveStreamOnlineList", PageNum=0),
        # Understood, and not offered: told apart from a typing error.
        bad("UnsupportedOperation", "DescribeLiveCerts", raw=True, family="live"),
        bad("InvalidAction", "DescribeLiveCertz", raw=True, family="live"),
        bad("InvalidAction", "SearchMedia", raw=True, family="live"),
    ]
