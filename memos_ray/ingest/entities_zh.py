"""Chinese names in text: people by surname and context, places and organisations by suffix or by list.

Chinese has neither capitals nor spaces, so a name counts only where its neighbours show where it ends:
punctuation, or words that stand beside names. Knows common surnames and well-known places, no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from memos_ray.text.script import HAN_CLASS

_SURNAMES = (
    "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛"
    "叶阎余潘杜戴夏钟汪田任姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段雷钱汤尹黎易常武乔"
    "贺赖龚文"
)
_DOUBLE = "欧阳|司马|上官|诸葛|夏侯|皇甫|尉迟|公孙|慕容|令狐|长孙|司徒"
_TITLES = "老师|先生|女士|小姐|太太|医生|大夫|教授|经理|主任|师傅|总监|律师|阿姨|叔叔|奶奶|爷爷|校长|院长|总"
_BEFORE = "和跟与同找叫是给对向让请陪约问帮见像被把为在等、，。！？：；“”（）\\s"
_BEFORE_WORDS = (
    "同事|朋友|认识|同学|室友|邻居|老板|哥哥|姐姐|弟弟|妹妹|女友|男友|丈夫|妻子|老公|老婆|名叫|告诉|听说"
)
_AFTER = (
    "说|告诉|觉得|认为|喜欢|昨天|今天|明天|上周|下周|去年|已经|正在|打算|刚|也|都|是|在|去|来|和|跟|"
    "与|的|住|搬|要|想|会|给|送|请|约|问|帮|买|做|又|还|从|到|被|把|一起|结婚|老师|先生|女士"
)
_WORDS = (
    "高兴 高中 高级 高考 高铁 高手 黄色 黄金 黄昏 金融 金色 金属 马上 马路 方便 方法 方式 方面 方向 "
    "石头 常常 常见 钱包 白色 白天 白酒 康复 文化 文章 文字 文件 周末 周围 周一 周二 周三 周四 周五 "
    "周六 周日 任何 任务 万一 于是 段时 陆续 许多 何时 何况 程度 程序 毛巾 毛衣 雷雨 夏天 夏季 顾客 "
    "韩国 曾经 田园 江湖 龙虾 易懂 易怒 史上 贺卡 温泉 林业 胡说 胡萝 罗马 苏州 秦皇 江苏 江西 汤圆 "
    "董事 侯鸟 贾斯 武术 武汉 乔迁 汪洋 黎明 石油 方案 万分 常用 高度 高温 白菜"
)
_NOT_NAMES = frozenset(_WORDS.split())
_NO_GIVEN = (
    "在是的了和跟与说去来也都就还很不有没我你他她它这那么吗呢吧啊时天年月日上下里外"
    "中到从给对把被要想会能可家个们"
)
_PLACES = (
    "北京|上海|天津|重庆|广州|深圳|杭州|南京|苏州|成都|武汉|西安|长沙|郑州|青岛|大连|厦门|宁波|无锡|"
    "福州|济南|合肥|昆明|贵阳|南宁|海口|三亚|哈尔滨|长春|沈阳|石家庄|太原|兰州|西宁|银川|拉萨|"
    "乌鲁木齐|呼和浩特|珠海|东莞|佛山|香港|澳门|台北|高雄|台湾|广东|广西|浙江|江苏|四川|云南|贵州|"
    "湖南|湖北|河南|河北|山东|山西|陕西|甘肃|青海|福建|江西|安徽|海南|辽宁|吉林|黑龙江|内蒙古|新疆|"
    "西藏|宁夏|中国|日本|韩国|美国|英国|法国|德国|意大利|西班牙|葡萄牙|荷兰|瑞士|瑞典|挪威|丹麦|芬兰|"
    "俄罗斯|加拿大|澳大利亚|新西兰|巴西|印度|泰国|越南|新加坡|马来西亚|东京|大阪|京都|首尔|纽约|"
    "洛杉矶|旧金山|西雅图|波士顿|伦敦|巴黎|柏林|慕尼黑|罗马|米兰|马德里|巴塞罗那|里斯本|阿姆斯特丹|"
    "悉尼|墨尔本|多伦多|温哥华|曼谷"
)
_SUFFIXES = (
    "大学|中学|小学|学院|幼儿园|公司|集团|银行|医院|诊所|餐厅|饭店|酒店|咖啡馆|咖啡店|书店|超市|商场|"
    "图书馆|博物馆|美术馆|体育馆|健身房|公园|广场|机场|火车站|地铁站|车站|大厦|小区|寺|市|省|县|区|"
    "镇|路|街"
)
# A name before a suffix begins after the last character that is seldom part of one.
_OUTSIDE = (
    "和我你您他她它们在去到来从的了跟与是住这那个往向于把给有想要会被就也都还又很不没过着吗呢吧啊说叫家"
    "座所条间常次回进出离逛附近某每各本该几两"
)
_ENDINGS = (
    "城市 超市 夜市 菜市 股市 上市 走路 公路 马路 道路 铁路 一路 网路 思路 逛街 上街 地区 社区 市区 "
    "郊区 景区 园区 校区 时区 节省 反省 本省 外省 县城 小镇 古镇 城镇 省市 区县 半路 迷路 问路 带路 "
    "顺路"
)
_NOT_PLACES = frozenset(_ENDINGS.split())

_PERSON = re.compile(
    rf"(?:^|(?<=[{_BEFORE}])|(?<={_BEFORE_WORDS}))"
    rf"(?P<name>(?:{_DOUBLE}|[{_SURNAMES}])(?![{_NO_GIVEN}])[{HAN_CLASS}](?:(?![{_NO_GIVEN}])[{HAN_CLASS}])??)"
    rf"(?=$|[、，。！？：；“”（）,.!?\s]|{_AFTER})"
)
_NICKNAME = re.compile(rf"(?<![大很最不太从])(?P<name>[小老阿][{_SURNAMES}])(?=$|[^{HAN_CLASS}]|{_AFTER})")
_TITLED = re.compile(rf"(?P<name>(?:{_DOUBLE}|[{_SURNAMES}])(?:{_TITLES}))(?![结共是会统体])")
_PLACE = re.compile(f"(?P<name>{_PLACES})(?![路街])")
_SUFFIX = re.compile(f"(?:{_SUFFIXES})(?![长民场边上口])")
_STEM = re.compile(rf"(?:(?![{_OUTSIDE}])[{HAN_CLASS}])+\Z")
_LONGEST_STEM = 8


def find(text: str) -> Iterator[tuple[int, str]]:
    """(position, name) of each name found; positions ascend within each rule only, names may repeat."""
    for pattern in (_PERSON, _NICKNAME, _TITLED, _PLACE):
        for match in pattern.finditer(text):
            if match["name"][:2] not in _NOT_NAMES or pattern is _PLACE:
                yield match.start("name"), match["name"]
    for match in _SUFFIX.finditer(text):
        stem = _STEM.search(text, max(0, match.start() - _LONGEST_STEM), match.start())
        if stem is None or len(stem[0]) < 2:
            continue
        name = stem[0] + match[0]
        if name[-2:] not in _NOT_PLACES:
            yield stem.start(), name
